"""A pays in, B rolls back its own request, A commits: over one Session or a Session each, to be traced."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from lab.scenes.shared_lanes import OK, Lane
from lab.scenes.shared_money import Bank, pay_in, read_only, sessions


def main(engine: Mapping[str, Any], scope: str) -> dict[str, Any]:
    """Return the ``threads`` by lane, when it ``began`` and ``ended``, what A ``is told``, what is ``stored``, notes.

    Args:
        engine: arguments of ``create_engine``.
        scope: whose the Session is, as in :mod:`lab.scenes.shared_money`.
    """
    bank, a, b, notes = Bank(engine), Lane("A"), Lane("B"), []
    bank.open()

    def note(lane: Lane, words: str) -> None:
        notes.append((time.time(), f"thread {lane.name}", words))

    def roll_back(session: Session) -> str:
        read_only(session)
        session.rollback()
        note(b, "rollback() is done")
        return OK

    def commit(session: Session) -> str:
        note(a, "commit() is called")
        session.commit()
        note(a, "commit() has returned")
        return OK

    with bank.engine() as shared:
        # Both connections are in the pool before it begins.
        first, second = shared.connect(), shared.connect()
        first.close()
        second.close()
        of_a, of_b = sessions(shared, scope)
        began = time.time()
        a.do(lambda: pay_in(of_a))
        b.told(lambda: roll_back(of_b))
        told = a.told(lambda: commit(of_a))
        ended = time.time()
        of_a.close()
        of_b.close()
    threads = {f"thread {lane.name}": lane.thread for lane in (a, b)}
    return {
        "threads": threads, "began": began, "ended": ended, "A is told": told, "stored": bank.stored(), "notes": notes,
    }  # fmt: skip
