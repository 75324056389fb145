"""The application of :mod:`lab.apps.roles`, and a note of when uWSGI calls its own hook, and ``@postfork``."""

from __future__ import annotations

import uwsgi
from uwsgidecorators import postfork

from lab.apps.prefork import engine, note, settings
from lab.apps.roles import application, process

__all__ = ["application"]


def called(event: str) -> bytes:
    note(event, process=process())
    if settings["disposes"] == event:
        engine.dispose(close=False)
    # uWSGI takes a hook that returns no bytes for a failure and ends the worker.
    return b"done"


uwsgi.register_rpc("hook", lambda: called("hook"))
postfork(lambda: called("postfork"))
