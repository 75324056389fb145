"""A request to the application of :mod:`lab.apps.flask_pages` and the next one in its thread, by remedy and hazard.

Nothing is left to chance: the requests follow each other in one thread, and the garbage collector stands still.
"""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from lab.apps.streamed import ViewError
from lab.drivers import spoken
from lab.hazards import Hazard, judged
from lab.pages import STORED, Truth
from lab.wsgi import exchange


def _view_error(where: str) -> str:
    return spoken(ViewError(where))


def _spoilt(hook: str) -> Hazard:
    return Hazard(f"/spoils-{hook}", "", raised=_view_error(f"in a {hook} function"))


PROPAGATE = "exception, PROPAGATE_EXCEPTIONS"
HAZARDS = {
    "plain": Hazard("/whole"),
    "lazy stream": Hazard("/streamed"),
    "stream_with_context": Hazard("/streamed+context"),
    "HEAD": Hazard("/streamed+context", "", method="HEAD"),
    "HEAD, body not iterated": Hazard("/streamed+context", "", method="HEAD", chunks=0),
    "client gone in mid-stream": Hazard("/streamed", STORED, chunks=1),
    "client gone, stream_with_context": Hazard("/streamed+context", STORED, chunks=1),
    "exception before the body": Hazard("/fails", "sorry", "500 INTERNAL SERVER ERROR"),
    PROPAGATE: Hazard("/fails", "", "", raised=_view_error("before the body")),
    "abort(404) after a flush": Hazard("/aborts", "sorry", "404 NOT FOUND"),
    "exception in mid-stream": Hazard("/fails-later", STORED, raised=_view_error("in mid-stream")),
    "exception in mid-stream, stream_with_context": Hazard(
        "/fails-later+context", STORED, raised=_view_error("in mid-stream")
    ),
    "exception in another teardown_request": _spoilt("teardown_request"),
    "exception in another teardown_appcontext": _spoilt("teardown_appcontext"),
}


def main(arguments: Mapping[str, Any], database: str, remedies: Iterable[str], flask: str = "") -> dict[str, Any]:
    """Play every hazard with each of *remedies*; return, by remedy and hazard, the outcome and what it was told by.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
        remedies: names from :data:`lab.hazards.FLASK_REMEDIES`.
        flask: the folder of another release of Flask.
    """
    if flask:
        sys.path.insert(0, flask)
    gc.disable()
    truth = Truth(arguments, database)
    return {remedy: {name: _play(truth, remedy, name) for name in HAZARDS} for remedy in remedies}


def _play(truth: Truth, remedy: str, name: str) -> dict[str, Any]:
    # Only here, as main decides which Flask it is.
    from lab.apps.flask_pages import make_app

    truth.rewind()
    engine = truth.engine()
    app = make_app(remedy, engine, propagate=name == PROPAGATE)
    try:
        return judged(truth, engine, HAZARDS[name], functools.partial(exchange, app))
    finally:
        # What was leaked holds locks; once it is collected, the connections come back and can be closed.
        del app
        gc.collect()
        engine.dispose()
