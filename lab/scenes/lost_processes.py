"""Two that add 10 to one balance under a lock of Python's: threads of one process, or two processes with a lock each.

Each adder tells when it has tried its lock and when it has read, and writes when it is told to.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from sqlalchemy import Engine, update
from sqlalchemy.orm import Session

from lab.scenes.lost_stage import Account, Base, engine_at


def main(engine: Mapping[str, Any], plays: Sequence[tuple[int, bool]], trials: int) -> list[list[dict[str, Any]]]:
    """Let both add, *trials* times for each of *plays*.

    Args:
        engine: arguments of ``create_engine``.
        plays: in how many processes, and whether by an SQL expression.

    Returns:
        A list of trials for each of *plays*: the ``balance`` in the end, and ``lock``, how the second found it, "free"
        or "taken".
    """
    plain = engine_at(engine, "the driver's own")
    Base.metadata.create_all(plain)
    try:
        return [_play(engine, plain, *one, trials) for one in plays]
    finally:
        Base.metadata.drop_all(plain)


def _play(
    arguments: Mapping[str, Any], plain: Engine, processes: int, expression: bool, trials: int
) -> list[dict[str, Any]]:
    spawn = multiprocessing.get_context("spawn")
    lock = threading.Lock()
    ends, adders = [], []
    for _ in range(2):
        mine, its = spawn.Pipe()
        if processes == 2:
            adder = spawn.Process(target=_process, args=(arguments, its, expression, trials), daemon=True)
        else:
            adder = threading.Thread(target=_adder, args=(plain, lock, its, expression, trials), daemon=True)
        adder.start()
        ends.append(mine)
        adders.append(adder)
    found = [_trial(plain, *ends) for _ in range(trials)]
    for adder in adders:
        adder.join(60)
    return found


def _trial(plain: Engine, first: Connection, second: Connection) -> dict[str, Any]:
    with Session(plain) as session, session.begin():
        session.add(Account(id=1, balance=100))
    for end in (first, second):
        end.send("try")
        found = _hear(end)
        # Who found its lock taken reads only when the other is done.
        if found == "free":
            _hear(end)
    for end in (first, second):
        end.send("go on")
    _hear(first)
    if found == "taken":
        _hear(second)
    _hear(second)
    with Session(plain) as session, session.begin():
        account = session.get_one(Account, 1)
        session.delete(account)
        return {"balance": account.balance, "lock": found}


def _hear(end: Connection) -> str:
    if not end.poll(60):
        raise TimeoutError("an adder says nothing")
    return end.recv()


def _process(arguments: Mapping[str, Any], end: Connection, expression: bool, trials: int) -> None:
    _adder(engine_at(arguments, "the driver's own"), threading.Lock(), end, expression, trials)


def _adder(engine: Engine, lock: threading.Lock, end: Connection, expression: bool, trials: int) -> None:
    for _ in range(trials):
        end.recv()
        free = lock.acquire(blocking=False)
        end.send("free" if free else "taken")
        if not free:
            lock.acquire()
        try:
            _add(engine, end, expression)
        finally:
            lock.release()
        end.send("done")


def _add(engine: Engine, end: Connection, expression: bool) -> None:
    with Session(engine) as session, session.begin():
        account = session.get_one(Account, 1)
        end.send("has read")
        end.recv()
        if expression:
            session.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 10))
        else:
            account.balance += 10
