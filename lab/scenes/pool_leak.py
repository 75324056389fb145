"""A function that leaves its Session open, called again and again, until the pool or the server has enough."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from lab.drivers import spoken
from lab.scenes.pool_budget import nobody_is_there

ONE = text("select 1")


def main(engine: Mapping[str, Any], own: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In each of *cells*, call the function up to ``calls`` times, with the garbage collector off.

    Args:
        engine: arguments of ``create_engine``, to which a cell adds its ``options``; with ``null``, a NullPool.
        own: those for an account that sees all clients.

    Returns:
        Of each cell, in which the function ``closes`` its Session or does not: ``right``, the calls before the first
        that failed; the ``message`` of that one; what ``status()`` of the pool says then.
    """
    gc.disable()
    return [_play(engine, own, **cell) for cell in cells]


def _play(
    engine: Mapping[str, Any],
    own: Mapping[str, Any],
    options: Mapping[str, Any],
    calls: int,
    closes: bool,
    null: bool = False,
) -> dict[str, Any]:
    nobody_is_there(own)
    made = create_engine(**engine, **options, **({"poolclass": NullPool} if null else {}))
    kept: list[Session] = []
    right, message = 0, ""
    try:
        while right < calls:
            session = Session(made)
            kept.append(session)
            session.scalar(ONE)
            if closes:
                session.close()
            right += 1
    except Exception as problem:
        message = spoken(problem)
    status = made.pool.status()
    for session in kept:
        session.close()
    made.dispose()
    return {"right": right, "message": message, "status": status}
