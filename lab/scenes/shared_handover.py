"""One Session goes from thread to thread, and one has it at a time; or the next begins while the last still acts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from lab.scenes.shared_lanes import OK, Halt, Lane, told
from lab.scenes.shared_money import Account, Bank

THREADS = 8
NONCE = {"postgresql": "select cast(:nonce as text)", "mariadb": "select :nonce", "sqlite": "select :nonce"}


def main(engine: Mapping[str, Any], database: str, hops: int) -> dict[str, Any]:
    """Hand a Session over *hops* times; and once more a new one, while its first user waits for a connection.

    Args:
        engine: arguments of ``create_engine``.
        database: the kind of server.

    Returns:
        ``handed over``: ``hops``, ``threads``, ``errors`` (by message), ``wrong`` answers, what is ``stored``, and how
        many payments were ``acknowledged``. ``overlapping``: what ``A`` and ``B`` are told.
    """
    bank, lanes = Bank(engine), [Lane(f"thread {n}") for n in range(THREADS)]
    bank.open()
    with bank.engine() as shared:
        handed = _hand_over(Session(shared), lanes, database, hops)
        handed["stored"] = bank.stored()[0] - 100
        return {"handed over": handed, "overlapping": _overlap(shared, *lanes[:2])}


def _hand_over(session: Session, lanes: list[Lane], database: str, hops: int) -> dict[str, Any]:
    errors, wrong, acknowledged = Counter(), 0, 0

    def step(n: int) -> str:
        session.get_one(Account, 1).balance += 1
        answer = session.scalars(text(NONCE[database]), {"nonce": f"n{n}"}).one()
        # Two of three leave the transaction open for the next thread.
        if n % 3 == 2:
            session.commit()
        return answer

    for n in range(hops):
        said = lanes[n % len(lanes)].begin(lambda n=n: step(n))
        outcome = told(said)
        wrong += not said.exception() and outcome != f"n{n}"
        if said.exception():
            errors[outcome] += 1
        acknowledged += not said.exception()
    lanes[-1].do(session.commit)
    lanes[0].do(session.close)
    return {"hops": hops, "threads": len(lanes), "errors": dict(errors), "wrong": wrong, "acknowledged": acknowledged}


def _overlap(engine: Any, a: Lane, b: Lane) -> dict[str, str]:
    session, halt = Session(engine), Halt()

    def step() -> str:
        session.get_one(Account, 1).balance += 1
        session.flush()
        return OK

    event.listen(engine, "checkout", halt)
    of_a = a.begin(step)
    halt.await_thread()
    of_b = b.told(step)
    halt.let_go()
    seen = {"A": told(of_a), "B": of_b}
    session.close()
    return seen
