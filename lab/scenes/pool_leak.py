"""A function that leaves its Session open, called again and again, until the pool or the server has enough."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from lab.drivers import spoken

ONE = text("select 1")


def main(engine: Mapping[str, Any], options: Mapping[str, Any], calls: int, closes: bool, pool: str = "") -> dict:
    """Call the function up to *calls* times, with the garbage collector off.

    Args:
        engine: arguments of ``create_engine``, to which *options* are added.
        closes: the function closes its Session.
        pool: "NullPool", or nothing for the default.

    Returns:
        ``right``, the calls before the first that failed; ``message`` of that one; connections ``checked_out`` then,
        and what ``status()`` of the pool says.
    """
    gc.disable()
    made = create_engine(**engine, **options, **({"poolclass": NullPool} if pool == "NullPool" else {}))
    kept, right, message = [], 0, ""
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
    return {"right": right, "message": message, "status": made.pool.status()}
