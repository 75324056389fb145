"""A stops in the middle of a call, and B calls the same Session, or its own: what is each told, and what is stored?

A takes 50 from one account and pays them into another. It stops where an event of SQLAlchemy's calls a listener, which
waits until B has been told something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event, select, text
from sqlalchemy.orm import Session

from lab.scenes.shared_lanes import OK, Halt, Lane, told
from lab.scenes.shared_money import SCOPES, Account, Bank, sessions

MOVED, UNTOUCHED = [50, 150], [100, 100]


def _begin(session: Session) -> None:
    with session.begin():
        session.execute(text("select 1"))


CALLS: dict[str, Callable[[Session], object]] = {
    "execute()": lambda session: session.execute(text("select 1")).all() and None,
    "begin()": _begin,
    "flush()": lambda session: session.flush(),
    "commit()": lambda session: session.commit(),
    "rollback()": lambda session: session.rollback(),
    "close()": lambda session: session.close(),
}


def _change(session: Session) -> None:
    first, second = session.get_one(Account, 1), session.get_one(Account, 2)
    first.balance -= 50
    second.balance += 50


def _change_and_flush(session: Session) -> None:
    _change(session)
    session.flush()


def _change_and_commit(session: Session) -> None:
    _change_and_flush(session)
    session.commit()


def _debit(session: Session) -> None:
    session.get_one(Account, 1).balance -= 50
    session.flush()


def _credit(session: Session) -> None:
    session.scalars(select(Account).where(Account.id == 2)).one().balance += 50
    session.commit()


def _nothing(session: Session) -> None:
    """Do nothing yet."""


@dataclass(frozen=True)
class Moment:
    """What A does ``before``, the call in which it stops, and the event at which it does, the Session's or else the
    engine's.
    """

    before: Callable[[Session], None]
    stops_in: Callable[[Session], None]
    event: str
    of_session: bool = False

    @contextmanager
    def halt(self, engine: Engine, session: Session) -> Iterator[Halt]:
        halt, target = Halt(), session if self.of_session else engine
        event.listen(target, self.event, halt)
        yield halt
        event.remove(target, self.event, halt)


MOMENTS = {
    "connects": Moment(_nothing, _change_and_commit, "checkout"),
    # Before the select of its second statement, when no call of the Session's has begun to act.
    "is between two statements": Moment(_debit, _credit, "do_orm_execute", of_session=True),
    "begins a flush": Moment(_change, CALLS["commit()"], "before_flush", of_session=True),
    "sends a flush": Moment(_change, CALLS["commit()"], "before_cursor_execute"),
    "commits": Moment(_change_and_flush, CALLS["commit()"], "commit"),
    "rolls back": Moment(_change_and_flush, CALLS["rollback()"], "rollback"),
}


def main(engine: Mapping[str, Any], trials: int) -> dict[str, Any]:
    """Play every call of B's at every moment of A's, *trials* times, with one Session and with a Session each.

    Args:
        engine: arguments of ``create_engine``.

    Returns:
        By scope and moment a list of trials: by call what ``A`` and ``B`` are told, and what is ``stored``.
    """
    bank, a, b = Bank(engine), Lane("A"), Lane("B")
    with bank.engine() as shared:
        # The first connection of all is made under a lock of the engine's.
        shared.connect().close()
        return {
            scope: {
                name: [{call: _play(bank, shared, a, b, scope, moment, call) for call in CALLS} for _ in range(trials)]
                for name, moment in MOMENTS.items()
            }
            for scope in SCOPES
        }


def _play(bank: Bank, engine: Engine, a: Lane, b: Lane, scope: str, moment: Moment, call: str) -> dict[str, Any]:
    bank.open()
    of_a, of_b = sessions(engine, scope)
    a.do(lambda: moment.before(of_a))
    with moment.halt(engine, of_a) as halt:
        a_told = a.begin(lambda: moment.stops_in(of_a))
        halt.await_thread()
        b_told = b.told(lambda: CALLS[call](of_b))
        halt.let_go()
        seen = {"B": b_told, "A": told(a_told), "stored": bank.stored()}
    of_a.close()
    of_b.close()
    return {**seen, "outcome": outcome(seen, UNTOUCHED if moment.event == "rollback" else MOVED)}


def outcome(seen: Mapping[str, Any], due: list[int]) -> str:
    """What became of the two in one word: where A is told OK, the books must show what was *due*."""
    if seen["A"] == OK and seen["stored"] != due:
        return "lost"
    if seen["A"] != OK:
        return "both fail" if seen["B"] != OK else "A fails"
    return "right" if seen["B"] == OK else "error"
