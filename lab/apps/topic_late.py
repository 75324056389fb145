"""An application that imports the one that asks the database at import only when a request comes."""

from __future__ import annotations


def application(environ, start_response):
    from lab.apps import prefork

    return prefork.application(environ, start_response)
