"""Ten greenlets and a scoped_session, with gevent's patches early, late or not at all: whose is the Session?

SQLAlchemy is imported in :func:`main`, for what was imported before the patches is what this is about.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

EARLY, AFTER_IMPORT = "before SQLAlchemy is imported", "after the import, before the registry"
LATE, NEVER = "after the registry is made", "never"
THREAD, CAPTURED, PATCHED = "the default", "get_ident imported before", "get_ident imported after"
GREENLETS = 10


def main(engine: Mapping[str, Any], database: str, patched: str, scopefunc: str) -> dict[str, Any]:
    """Let ten greenlets ask at the same time, each the registry's Session; then one updates, yields, and commits.

    Args:
        engine: arguments of ``create_engine``.
        patched: when ``monkey.patch_all()`` is called.
        scopefunc: what the registry goes by; "imported before" and "after" are so of the patches.

    Returns:
        ``outcomes``, what each of the ten got; ``closing``, what each that could not remove it was told; ``sessions``,
        how many there were; ``told`` and ``stored`` of the update, beside which another greenlet came and was done.
    """
    if loaded := [name for name in ("sqlalchemy", "pymysql", "psycopg") if name in sys.modules]:
        raise RuntimeError(f"imported too early to tell: {loaded}")
    from threading import get_ident as before

    from gevent import monkey

    if patched == EARLY:
        monkey.patch_all()
    import sqlalchemy
    from sqlalchemy.orm import scoped_session, sessionmaker

    if patched == AFTER_IMPORT:
        monkey.patch_all()
    from threading import get_ident as after

    scope = {THREAD: None, CAPTURED: before, PATCHED: after}[scopefunc]
    made = sqlalchemy.create_engine(**engine, pool_size=GREENLETS)
    registry = scoped_session(sessionmaker(made), scopefunc=scope)
    if patched == LATE:
        monkey.patch_all()

    from lab.scenes.task_common import Truth

    truth = Truth(engine, database)
    truth.rewind()
    return {**_ten(registry, database), **_update(registry, truth), "out": made.pool.checkedout()}


def _ten(registry: Any, database: str) -> dict[str, Any]:
    import gevent

    from lab.scenes.task_common import answer, error, question

    sessions, closing = [], []

    def request() -> dict[str, Any]:
        # No two have the same id: none is let go of before the end.
        sessions.append(registry())
        statement, asked = question(database)
        try:
            told = answer(registry.execute(statement, asked).one(), asked)
            # Any call that cooperates lets the next greenlet go on.
            gevent.sleep(0)
        except Exception as problem:
            told = error(problem)
        try:
            registry.remove()
        except Exception as problem:
            closing.append(error(problem)["message"])
        return told

    jobs = [gevent.spawn(request) for _ in range(GREENLETS)]
    gevent.joinall(jobs, timeout=30, raise_error=True)
    outcomes = [job.value for job in jobs]
    # What the ten left in it, where it is one.
    registry.remove()
    return {"outcomes": outcomes, "closing": closing, "sessions": len(set(map(id, sessions)))}


def _update(registry: Any, truth: Any) -> dict[str, Any]:
    import gevent
    from gevent.event import Event
    from sqlalchemy import select, update

    from lab.scenes.task_common import Account

    updated, done = Event(), Event()

    def first() -> str:
        registry.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 50))
        updated.set()
        done.wait(30)
        registry.commit()
        registry.remove()
        return "OK"

    def other() -> None:
        updated.wait(30)
        registry.execute(select(Account.balance).where(Account.id == 2))
        registry.remove()
        done.set()

    jobs = [gevent.spawn(first), gevent.spawn(other)]
    gevent.joinall(jobs, timeout=30, raise_error=True)
    return {"told": jobs[0].value, "stored": truth.balance()}
