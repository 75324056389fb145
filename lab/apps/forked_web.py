"""The application of :mod:`lab.apps.forked` behind HTTP, for gunicorn and uWSGI."""

from __future__ import annotations

from urllib.parse import parse_qs

from lab.apps import forked

try:
    from uwsgidecorators import postfork

    postfork(lambda: forked.hook("@postfork"))
except ImportError:
    pass


def application(environ, start_response):
    asked = parse_qs(environ["QUERY_STRING"])
    forked.job(asked["lap"][0], asked["nonce"][0])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
