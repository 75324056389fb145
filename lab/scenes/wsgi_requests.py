"""A request to the application of :mod:`lab.apps.streamed` and the next one in its thread, for each remedy and hazard.

Nothing is left to chance: the requests follow each other in one thread, and the garbage collector stands still.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.orm import sessionmaker

from lab.apps.streamed import Streamed, ViewError
from lab.drivers import spoken
from lab.hazards import Hazard, judged
from lab.pages import STORED, Truth
from lab.scopes import scoped
from lab.wsgi import exchange


def _view_error(where: str) -> str:
    return spoken(ViewError(where))


HAZARDS = {
    "plain": Hazard("/whole"),
    "lazy stream": Hazard("/streamed"),
    "generator application": Hazard("/generated"),
    "HEAD": Hazard("/streamed", method="HEAD"),
    "HEAD, body not iterated": Hazard("/streamed", "", method="HEAD", chunks=0),
    "client gone in mid-stream": Hazard("/streamed", STORED, chunks=1),
    "client gone, generator application": Hazard("/generated", STORED, chunks=1),
    "exception before the body": Hazard("/fails", "", "", raised=_view_error("before the body")),
    "exception in mid-stream": Hazard("/fails-later", STORED, raised=_view_error("in mid-stream")),
}


def main(arguments: Mapping[str, Any], database: str, remedies: Iterable[str]) -> dict[str, Any]:
    """Play every hazard with each of *remedies*; return, by remedy and hazard, the outcome and what it was told by.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
        remedies: names from :data:`lab.scopes.REMEDIES`.
    """
    gc.disable()
    truth = Truth(arguments, database)
    return {remedy: {name: _play(truth, remedy, hazard) for name, hazard in HAZARDS.items()} for remedy in remedies}


def _play(truth: Truth, remedy: str, hazard: Hazard) -> dict[str, Any]:
    truth.rewind()
    engine = truth.engine()
    app = scoped(Streamed, sessionmaker(engine), remedy)
    try:
        return judged(truth, engine, hazard, functools.partial(exchange, app))
    finally:
        # What was leaked holds locks; once it is collected, the connections come back and can be closed.
        del app
        gc.collect()
        engine.dispose()
