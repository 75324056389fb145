"""Threads that hold their connection for a while: how many at a time, how long it takes, and who gives up."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.pools import waiting
from lab.process import wait_until

ONE = text("select 1")
ROWS = text("select count(*) from pool_row")


def main(engine: Mapping[str, Any], scene: str, cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Play "slow call" or "turns" on an engine, with the arguments of each of *cells*."""
    play = {"slow call": _slow_call, "turns": _turns}[scene]
    return [play(engine, **cell) for cell in cells]


def _slow_call(
    arguments: Mapping[str, Any], threads: int, connections: int, timeout: float, before: str
) -> dict[str, Any]:
    """As many threads as there are connections ask the database and then something slow, which has its answer when
    all other threads have theirs from the database.

    Args:
        before: what is called on the Session before the slow call: "", "commit", "rollback", "close".

    Returns:
        ``right`` and ``messages`` of the other threads; ``idle_in_transaction`` connections during the slow call.
    """
    engine = create_engine(**arguments, pool_size=connections, max_overflow=0, pool_timeout=timeout)
    own = create_engine(**arguments, isolation_level="AUTOCOMMIT")
    with own.connect() as connection:
        connection.execute(text("create table if not exists pool_row (id int primary key, n int)"))
    answers: list[str] = []
    called, answered = threading.Barrier(connections + 1), threading.Event()

    def slow() -> None:
        with Session(engine) as session:
            session.scalar(ROWS)
            if before:
                getattr(session, before)()
            called.wait(60)
            answered.wait(60)
            session.scalar(ROWS)

    def quick() -> None:
        try:
            with Session(engine) as session:
                session.scalar(ROWS)
        except Exception as problem:
            answers.append(spoken(problem))
        else:
            answers.append("")

    slows = [threading.Thread(target=slow) for _ in range(connections)]
    quicks = [threading.Thread(target=quick) for _ in range(threads - connections)]
    for thread in slows:
        thread.start()
    called.wait(60)
    idle = _idle_in_transaction(own)
    for thread in quicks:
        thread.start()
    for thread in quicks:
        thread.join()
    answered.set()
    for thread in slows:
        thread.join()
    wrong = [answer for answer in answers if answer]
    found = {"right": answers.count(""), "messages": sorted(set(wrong)), "errors": len(wrong)}
    return {**found, "idle_in_transaction": idle}


def _idle_in_transaction(own: Engine) -> int:
    question = {
        "postgresql": "select count(*) from pg_stat_activity where state = 'idle in transaction'",
        "mysql": "select count(*) from information_schema.processlist p join information_schema.innodb_trx t"
        " on t.trx_mysql_thread_id = p.id where p.command = 'Sleep'",
    }[own.dialect.name]
    with own.connect() as connection:
        return connection.scalar(text(question))


def _turns(arguments: Mapping[str, Any], threads: int, connections: int, hold: float) -> dict[str, Any]:
    """Threads that each hold a connection for *hold* seconds, all at once as far as the pool lets them.

    Returns:
        ``at_once``, the most that held one at a time; ``seconds`` that all took; how many had to wait in the queue.
    """
    engine = create_engine(**arguments, pool_size=connections, max_overflow=0, pool_timeout=60)
    lock, holding, most = threading.Lock(), 0, 0
    first = min(threads, connections)
    met = threading.Event()

    def work() -> None:
        nonlocal holding, most
        with Session(engine) as session:
            session.scalar(ONE)
            with lock:
                holding += 1
                most = max(most, holding)
                if holding == first:
                    met.set()
            # The first ones meet, so that the pool is used to the full however busy the machine is.
            met.wait(60)
            time.sleep(hold)
            with lock:
                holding -= 1

    crew = [threading.Thread(target=work) for _ in range(threads)]
    began = time.monotonic()
    for thread in crew:
        thread.start()
    wait_until(lambda: met.is_set() or waiting(engine) > threads, "the first threads have a connection")
    for thread in crew:
        thread.join()
    took = time.monotonic() - began
    engine.dispose()
    return {"at_once": most, "seconds": round(took, 2), "rounds": -(-threads // connections)}
