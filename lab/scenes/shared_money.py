"""Two requests, each in a thread of its own, one step after another: what is stored when they share one Session?

A moves money; B does something else meanwhile, and ends. No step overlaps with another, and nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, make_url, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lab.scenes.shared_lanes import Lane

SCOPES = ONE, EACH = "one Session", "a Session each"
REFUSED = "refused"


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "shared_account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


class Declined(Exception):
    """What A raises when the account is not to be credited."""


class Bank:
    """Two accounts, and the lab's own view of what is stored.

    Args:
        arguments: those of ``create_engine``.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.arguments, self._own = dict(arguments), create_engine(**arguments)
        Base.metadata.create_all(self._own)

    def open(self) -> None:
        """Put 100 into each account."""
        with Session(self._own) as session, session.begin():
            session.execute(delete(Account))
            session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])

    def stored(self) -> list[int]:
        with self._own.connect() as connection:
            return list(connection.scalars(select(Account.balance).order_by(Account.id)))

    @contextmanager
    def engine(self, **options: Any) -> Iterator[Engine]:
        """A new engine for A and B, who wait for no lock."""
        engine = create_engine(**self.arguments, **options)
        if make_url(self.arguments["url"]).get_backend_name() == "mysql":
            event.listen(engine, "connect", _without_waiting)
        yield engine
        engine.dispose()


def _without_waiting(dbapi: Any, _: object) -> None:
    cursor = dbapi.cursor()
    cursor.execute("SET innodb_lock_wait_timeout = 0")
    cursor.close()


def sessions(engine: Engine, scope: str) -> tuple[Session, Session]:
    """The Sessions of A and of B: one and the same, or one each."""
    first = Session(engine)
    return first, first if scope == ONE else Session(engine)


def pay_in(session: Session) -> None:
    session.get_one(Account, 1).balance += 50
    session.flush()


def read_only(session: Session) -> int:
    return session.scalars(select(Account.balance).where(Account.id == 2)).one()


def read_and_roll_back(session: Session) -> None:
    read_only(session)
    session.rollback()


def read_and_close(session: Session) -> None:
    read_only(session)
    session.close()


def read_and_commit(session: Session) -> None:
    read_only(session)
    session.commit()


def fail_and_roll_back(session: Session) -> str:
    """Open an account that there is already, and roll back as one should."""
    try:
        session.add(Account(id=2, balance=0))
        session.flush()
    except IntegrityError:
        session.rollback()
        return REFUSED
    raise AssertionError("an account was opened twice")


ENDINGS: dict[str, Callable[[Session], object]] = {
    "reads": read_only,
    "reads, rollback()": read_and_roll_back,
    "reads, close()": read_and_close,
    "fails, rollback()": fail_and_roll_back,
}


def pays_in(a: Lane, b: Lane, of_a: Session, of_b: Session, ending: str) -> dict[str, str]:
    """A pays 50 into the first account; B's request comes and goes; A commits."""
    a.do(lambda: pay_in(of_a))
    return {"B is told": b.told(lambda: ENDINGS[ending](of_b)), "A is told": a.told(of_a.commit)}


def transfers(a: Lane, b: Lane, of_a: Session, of_b: Session, ending: str) -> dict[str, str]:
    """A takes 50 from the first account; B reads, and may commit; A cannot pay them into the second, and rolls back."""

    def debit() -> None:
        of_a.get_one(Account, 1).balance -= 50
        of_a.flush()

    def credit() -> str:
        try:
            raise Declined
        except Declined:
            of_a.rollback()
            return REFUSED

    a.do(debit)
    return {"B is told": b.told(lambda: TRANSFERS[ending](of_b)), "A is told": a.told(credit)}


TRANSFERS: dict[str, Callable[[Session], object]] = {"reads": read_only, "reads, commit()": read_and_commit}


def looks(a: Lane, b: Lane, of_a: Session, of_b: Session, _: str) -> dict[str, Any]:
    """A sets the first balance to 0; B reads it; A rolls back."""

    def empty() -> None:
        of_a.get_one(Account, 1).balance = 0
        of_a.flush()

    def look() -> int | str:
        try:
            return of_b.scalars(select(Account.balance).where(Account.id == 1)).one()
        except DBAPIError as problem:
            if "Lock wait timeout" not in str(problem):
                raise
            return "blocked"

    a.do(empty)
    seen = b.do(look)
    a.do(of_a.rollback)
    return {"B reads": seen}


def main(engine: Mapping[str, Any], isolations: Sequence[str], trials: int) -> dict[str, Any]:
    """Play all of it *trials* times, with one Session and with a Session each.

    Args:
        engine: arguments of ``create_engine``.
        isolations: the levels at which B reads what A takes back; all else is played at the server's default.

    Returns:
        Under ``pays in`` and ``transfers``, by scope and by what B does, a list of trials: what each ``is told``, and
        what is ``stored``. Under ``looks``, by scope and isolation, what ``B reads`` and what is ``stored``.
    """
    bank = Bank(engine)
    a, b = Lane("A"), Lane("B")

    def play(scope: str, tell: Callable[..., dict[str, Any]], how: str, **options: str) -> dict[str, Any]:
        bank.open()
        with bank.engine(**options) as engine:
            of_a, of_b = sessions(engine, scope)
            seen = tell(a, b, of_a, of_b, how)
            of_a.close()
            of_b.close()
        return {**seen, "stored": bank.stored()}

    told = {
        name: {scope: {how: [play(scope, tell, how) for _ in range(trials)] for how in hows} for scope in SCOPES}
        for name, tell, hows in (("pays in", pays_in, ENDINGS), ("transfers", transfers, TRANSFERS))
    }
    looked = {
        scope: {level: [play(scope, looks, "", isolation_level=level) for _ in range(trials)] for level in isolations}
        for scope in SCOPES
    }
    return {**told, "looks": looked}
