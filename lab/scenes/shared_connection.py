"""One connection of a driver's own, no SQLAlchemy in between, and two threads that execute on it at once.

A's statement waits for a lock that the lab holds. B executes when the server says that A's does; the lock is let go
when B has been answered, or sleeps.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, text

from lab.drivers import spoken
from lab.process import wait_until
from lab.scenes.shared_lanes import Lane
from lab.scenes.shared_money import Bank

# A page of rows, each with the nonce of whoever asked.
ROWS = 500
QUESTION = {
    "postgresql": f"select '%s', n from generate_series(1, {ROWS}) n",
    "mariadb": f"select '%s', seq from seq_1_to_{ROWS}",
}
LOCK = {"postgresql": "pg_advisory_lock(%d)", "mariadb": "get_lock('%d', 60)"}
RELEASE = {"postgresql": "select pg_advisory_unlock(%d)", "mariadb": "select release_lock('%d')"}
WAITS = {
    "postgresql": "select 1 from pg_stat_activity where pid = %d and wait_event = 'advisory'",
    "mariadb": "select 1 from information_schema.processlist where id = %d and state = 'User lock'",
}
ME = {"postgresql": "select pg_backend_pid()", "mariadb": "select connection_id()"}
ONE, EACH = "one connection", "a connection each"
# An answer that has not come by then, with no lock in its way, never does.
DEADLINE = 5.0
# What is dropped goes back to SQLAlchemy, and is closed.
kept: list[Any] = []


def main(engine: Mapping[str, Any], database: str, scope: str, trials: int) -> dict[str, Any]:
    """Play it *trials* times, on a new connection each time.

    Args:
        engine: arguments of ``create_engine``.
        database: the kind of server.
        scope: ``ONE`` or ``EACH``.

    Returns:
        The driver's ``threadsafety``, and trials. ``at once``: of A's statement, of B's, and of one ``after`` both the
        outcome and the message; whether B ``waits``. ``in turns``: what each ``is told``, and what is ``stored``, when
        A updates, B rolls back and A commits.
    """
    source, bank = create_engine(**engine, poolclass=NullPool), Bank(engine)
    with create_engine(**engine, isolation_level="AUTOCOMMIT").connect() as own:
        trials = [
            {"at once": _at_once(source, own, database, scope, n), "in turns": _in_turns(source, bank, scope)}
            for n in range(trials)
        ]
    return {"threadsafety": source.dialect.loaded_dbapi.threadsafety, "trials": trials}


def _in_turns(source: Engine, bank: Bank, scope: str) -> dict[str, Any]:
    """A updates; B reads and rolls back; A commits."""
    bank.open()
    a, b = Lane("A"), Lane("B")
    first = connect(source)
    second = first if scope == ONE else connect(source)
    a.do(lambda: change(first))
    b_told = b.told(lambda: ask(second, "select 1") and second.rollback())
    return {"B is told": b_told, "A is told": a.told(first.commit), "stored": bank.stored()}


def change(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("update shared_account set balance = balance + 50 where id = 1")
    cursor.close()


def _at_once(source: Any, own: Any, database: str, scope: str, n: int) -> dict[str, Any]:
    a, b, c = Lane("A"), Lane("B"), Lane("C")
    first = connect(source)
    second = first if scope == ONE else connect(source)
    ((backend,),) = ask(first, ME[database])
    first.rollback()

    def question(name: str) -> str:
        return QUESTION[database] % f"{name}{n:05}"

    def again() -> list[Any]:
        first.rollback()
        return ask(first, question("c"))

    lock = LOCK[database] % n
    own.execute(text(f"select {lock}"))
    of_a = a.begin(lambda: ask(first, f"{question('a')}, (select {lock}) as held"))
    wait_until(lambda: own.execute(text(WAITS[database] % backend)).scalar(), "A's statement waits")
    began = threading.Event()
    of_b = b.begin(lambda: began.set() or ask(second, question("b")))
    began.wait()
    wait_until(lambda: of_b.done() or asleep(b), "B is answered or sleeps")
    waits = not of_b.done()
    own.execute(text(RELEASE[database] % n))
    wait([of_a, of_b], DEADLINE)
    seen = {"A": outcome(of_a, f"a{n:05}"), "B": outcome(of_b, f"b{n:05}"), "waits": waits}
    after = c.begin(again)
    wait([after], DEADLINE)
    return {**seen, "after": outcome(after, f"c{n:05}")}


def connect(engine: Engine) -> Any:
    """A connection of the driver's own, that SQLAlchemy only opens."""
    borrowed = engine.raw_connection()
    kept.append(borrowed)
    return borrowed.driver_connection


def ask(connection: Any, statement: str) -> list[Any]:
    """All rows of the answer, over the driver's own connection."""
    cursor = connection.cursor()
    cursor.execute(statement)
    rows = cursor.fetchall()
    cursor.close()
    return rows


def outcome(answer: Future, nonce: str) -> tuple[str, str]:
    """What became of a question whose every row is to carry *nonce*, and what was said of it."""
    if not answer.done():
        return "hung", ""
    if problem := answer.exception():
        return "error", spoken(problem)
    found = Counter(row[0] for row in answer.result())
    return (
        ("right", "") if found == {nonce: ROWS} else ("wrong", ", ".join(f"{found[key]} rows {key}" for key in found))
    )


def asleep(lane: Lane, looks: int = 20) -> bool:
    """Tell whether the system has not run the lane's thread once between many looks: it waits, and not for its turn."""
    seen = set()
    for _ in range(looks):
        threading.Event().wait(0.01)
        lines = Path(f"/proc/self/task/{lane.thread}/status").read_text().splitlines()
        seen.add(tuple(line for line in lines if line.startswith(("State", "voluntary", "nonvoluntary"))))
    return len(seen) == 1 and "S (sleeping)" in next(iter(seen))[0]
