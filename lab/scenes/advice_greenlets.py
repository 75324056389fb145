"""Fifty greenlets, with one global Session or with a Session each: half of them write, and the others end first.

What is imported here is imported in :func:`main`, after gevent's patches: late ones would be another experiment.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

GLOBAL, EACH = "one global Session", "a Session each"
GREENLETS = 50
PAIRS = GREENLETS // 2


def main(engine: Mapping[str, Any], database: str, way: str) -> dict[str, Any]:
    """Let all ask at once on a Session that has not connected; then let pairs of them write and end, in turns.

    Args:
        engine: arguments of ``create_engine``.
        way: whose the Session is, ``GLOBAL`` or ``EACH``.

    Returns:
        ``outcomes``, what each of the fifty got; ``acknowledged``, how many of those that write were told OK beside
        others that roll back, and ``kept``, how many of these writes are stored; ``foreign``, how many writes are
        stored of those that rolled back, beside others that commit.

    Raises:
        RuntimeError: SQLAlchemy or a driver was there before the patches.
    """
    if loaded := [name for name in ("sqlalchemy", "pymysql", "psycopg") if name in sys.modules]:
        raise RuntimeError(f"imported too early to tell: {loaded}")
    from gevent import monkey

    monkey.patch_all()
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session

    from lab.scenes.task_common import Truth

    truth = Truth(engine, database)
    made = create_engine(**engine, pool_size=GREENLETS)
    shared = Session(made)

    def session() -> Session:
        return shared if way == GLOBAL else Session(made)

    outcomes = _together(session, database)
    told, kept = _pairs(session, truth, ends="rollback", then="commit")
    _, foreign = _pairs(session, truth, ends="commit", then="rollback")
    return {"outcomes": outcomes, "acknowledged": told, "kept": kept, "foreign": foreign}


def _together(session: Callable[[], Any], database: str) -> list[dict[str, Any]]:
    import gevent

    from lab.scenes.task_common import answer, error, question

    used = [session() for _ in range(GREENLETS)]

    def ask(own: Any) -> dict[str, Any]:
        statement, asked = question(database)
        try:
            return answer(own.execute(statement, asked).one(), asked)
        except Exception as problem:
            return error(problem)

    jobs = [gevent.spawn(ask, own) for own in used]
    gevent.joinall(jobs, timeout=60, raise_error=True)
    for own in used:
        own.rollback()
    return [job.value for job in jobs]


def _pairs(session: Callable[[], Any], truth: Any, ends: str, then: str) -> tuple[int, int]:
    """Writers update and yield; the others read and end by *ends*; then the writers end by *then*.

    Returns:
        How many writers were told OK, and how many of their writes are stored.
    """
    import gevent
    from gevent.event import Event
    from gevent.lock import BoundedSemaphore
    from sqlalchemy import insert, select, update

    from lab.scenes.task_common import Account

    truth.rewind()
    with truth.engine.connect() as connection:
        connection.execute(insert(Account), [{"id": number, "balance": 100} for number in range(3, PAIRS + 1)])
    # Statements come one at a time: at once, one Session refuses them or its driver breaks, and then it is seen.
    turn, updated, ended = BoundedSemaphore(), [Event() for _ in range(PAIRS)], [Event() for _ in range(PAIRS)]

    def writer(number: int) -> str:
        own = session()
        with turn:
            own.execute(update(Account).where(Account.id == number + 1).values(balance=150))
        updated[number].set()
        gevent.wait(ended, timeout=60)
        with turn:
            getattr(own, then)()
        return "OK"

    def other(number: int) -> None:
        own = session()
        gevent.wait(updated, timeout=60)
        with turn:
            own.execute(select(Account.balance).where(Account.id == number + 1))
            getattr(own, ends)()
        ended[number].set()

    jobs = [gevent.spawn(writer, number) for number in range(PAIRS)]
    jobs += [gevent.spawn(other, number) for number in range(PAIRS)]
    gevent.joinall(jobs, timeout=120, raise_error=True)
    stored = sum(truth.balance(number + 1) == 150 for number in range(PAIRS))
    return [job.value for job in jobs].count("OK"), stored
