"""A Session loads an account, another pays in and commits, and the first reads again with a lock, pays in, commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, event, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, Session, mapped_column

from lab.drivers import spoken
from lab.scenes.staleness import FRESH, Base, engines, logged, writing


class Account(Base):
    __tablename__ = "stale_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


LOCKED = select(Account).where(Account.id == 1).with_for_update()
RAW = text("SELECT balance FROM stale_account WHERE id = 1 FOR UPDATE")
Read = Callable[[Session, Account], int]


def _refresh(session: Session, account: Account) -> int:
    session.refresh(account, with_for_update=True)
    return account.balance


READS: dict[str, Read] = {
    "select().with_for_update()": lambda session, account: session.scalars(LOCKED).one().balance,
    "get(with_for_update=True)": lambda session, account: session.get_one(Account, 1, with_for_update=True).balance,
    "select().with_for_update(), populate_existing": lambda session, account: (
        session.scalars(LOCKED, execution_options=FRESH).one().balance
    ),
    "get(with_for_update=True, populate_existing=True)": lambda session, account: (
        session.get_one(Account, 1, with_for_update=True, populate_existing=True).balance
    ),
    "refresh(with_for_update=True)": _refresh,
    "text() FOR UPDATE": lambda session, account: session.scalars(RAW).one(),
}
NOTHING_HELD = "select().with_for_update(), released"


def main(engine: Mapping[str, Any], isolation: str, trials: int) -> dict[str, Any]:
    """Play every read *trials* times at *isolation*.

    Args:
        engine: arguments of ``create_engine``.
        isolation: a level as ``create_engine`` takes it.

    Returns:
        By read a list of trials: ``read`` and ``stored``, the balance that was read and the one that is stored in the
        end; ``holds``, what was stored at the read; ``locked``, the message of whoever wants the lock meanwhile, and
        ``sql``.
    """
    first, other = engines(engine, isolation)
    if isolation == "REPEATABLE READ":
        event.listen(first, "connect", _without_snapshot_isolation)
    Base.metadata.create_all(other)
    with writing(other) as session:
        session.add(Account(id=1, balance=0))
    try:
        return {name: [_play(first, other, name) for _ in range(trials)] for name in (*READS, NOTHING_HELD)}
    finally:
        Base.metadata.drop_all(other)


def _without_snapshot_isolation(dbapi: Any, _: object) -> None:
    # Newer releases of MariaDB refuse to lock what the snapshot does not show, and older ones lack the setting.
    with dbapi.cursor() as cursor:
        cursor.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
        if cursor.fetchall():
            cursor.execute("SET innodb_snapshot_isolation = OFF")
    dbapi.rollback()


def _play(first: Engine, other: Engine, name: str) -> dict[str, Any]:
    _store(other, 100)
    with Session(first) as session:
        account: Any = session.get_one(Account, 1)
        if name == NOTHING_HELD:
            account = None
        _store(other, 500)
        with logged() as log:
            balance = READS[name if name in READS else "select().with_for_update()"](session, account)
        locked = _refused(other)
        seen = {"read": balance, "holds": _stored(other), "locked": locked, "sql": log.told}
        account = account or session.get_one(Account, 1)
        # What was read, and 10 more, as a form or a service would have it.
        account.balance = balance + 10
        session.commit()
    return {**seen, "stored": _stored(other)}


def _store(engine: Engine, balance: int) -> None:
    with writing(engine) as session:
        session.execute(update(Account.__table__).where(Account.id == 1).values(balance=balance))


def _stored(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(Account.__table__.c.balance)).scalar_one()


def _refused(engine: Engine) -> str:
    """What is told to whoever wants the row now; nothing if it is free."""
    try:
        with engine.connect() as connection:
            connection.execute(text(f"{RAW} NOWAIT"))
    except DBAPIError as problem:
        return spoken(problem)
    return ""
