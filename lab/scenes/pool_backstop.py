"""A Session is left open with a row locked, and the server ends idle transactions: what the server, the pool and the
Session then say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.process import wait_until

BACKEND = {"postgresql": "select pg_backend_pid()", "mysql": "select connection_id()"}
ALIVE = {
    "postgresql": "select count(*) from pg_stat_activity where pid = :id",
    "mysql": "select count(*) from information_schema.processlist where id = :id",
}
LOCK = text("select n from pool_row where id = 1 for update nowait")
READ = text("select n from pool_row where id = 1")


def main(engine: Mapping[str, Any], own: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Play each of *cells* on a pool of one connection.

    Args:
        engine: arguments of ``create_engine`` for the account whose idle transactions the server may end.
        own: those for the lab's own account.
    """
    return [_play(engine, own, **cell) for cell in cells]


def _play(
    engine: Mapping[str, Any], own: Mapping[str, Any], options: Mapping[str, Any], ends: bool, closes: bool
) -> dict[str, Any]:
    """One cell.

    Args:
        options: the engine's, too, such as ``pool_pre_ping``.
        ends: the server is known to end them: wait until it has.
        closes: the Session is closed as soon as the row is written, so that there is nothing to end.

    Returns:
        ``connection``, "ended" or "open"; ``row``, "locked" or "free"; ``stored``; connections ``checked out``; what
        another Session says, ``another``, and the one that was left open: ``next``, ``again`` without and ``after
        rollback`` with a rollback.
    """
    watch = create_engine(**own, isolation_level="AUTOCOMMIT")
    with watch.connect() as connection:
        connection.execute(text("create table if not exists pool_row (id int primary key, n int)"))
        connection.execute(text("delete from pool_row"))
        connection.execute(text("insert into pool_row values (1, 0)"))
    made = create_engine(**engine, **options, pool_size=1, max_overflow=0, pool_timeout=0.2)
    session = Session(made)
    backend = session.scalar(text(BACKEND[made.dialect.name]))
    session.execute(text("update pool_row set n = 1 where id = 1"))
    if closes:
        session.close()
    if ends and not closes:
        wait_until(lambda: not _alive(watch, backend), "the server ends the idle transaction")
    else:
        # More than the server's timeout, where it has one.
        time.sleep(1.5)
    found = {"connection": "open" if _alive(watch, backend) else "ended", "row": _row(watch)}
    found["checked out"] = made.pool.checkedout()
    found["another"] = _said(lambda: _read(made))
    found["next"] = _said(lambda: session.scalar(READ))
    found["again"] = _said(lambda: session.scalar(READ))
    session.rollback()
    found["after rollback"] = _said(lambda: session.scalar(READ))
    session.close()
    found["closed"] = _said(lambda: _read(made))
    with watch.connect() as connection:
        found["stored"] = connection.scalar(READ)
    return found


def _read(engine: Engine) -> None:
    with Session(engine) as session:
        session.scalar(READ)


def _alive(engine: Engine, backend: int) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text(ALIVE[engine.dialect.name]), {"id": backend}))


def _row(engine: Engine) -> str:
    try:
        with engine.connect() as connection:
            connection.execute(LOCK)
    except Exception:
        return "locked"
    return "free"


def _said(ask: Callable[[], object]) -> str:
    """The message of an exception; "right" if there is none."""
    try:
        ask()
    except Exception as problem:
        return spoken(problem)
    return "right"
