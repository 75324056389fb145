"""SQLite's own check of threads: how a Session meets it in another thread, and what is stored without it."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, StaticPool, create_engine, select
from sqlalchemy.orm import Session

from lab.scenes.shared_lanes import OK, Lane
from lab.scenes.shared_money import EACH, Account, Base, pays_in, sessions, transfers


def _file(file: str, **connect: object) -> Engine:
    return create_engine(f"sqlite:///{file}", connect_args={"timeout": 0.1, **connect})


def _static(file: str) -> Engine:
    return create_engine("sqlite://", connect_args={"check_same_thread": False}, poolclass=StaticPool)


# How an engine is made; where others have to do with the same database, in which A and B can meet.
MEET = {
    "file": _file,
    "memory, StaticPool, check_same_thread=False": _static,
    "memory, cache=shared": lambda file: create_engine("sqlite:///file::memory:?cache=shared&uri=true"),
}
WAYS: dict[str, Callable[[str], Engine]] = {
    **MEET,
    "file, check_same_thread=True": lambda file: _file(file, check_same_thread=True),
    "file, creator=sqlite3.connect": lambda file: create_engine("sqlite://", creator=lambda: sqlite3.connect(file)),
    "memory": lambda file: create_engine("sqlite://"),
}


def main(file: str) -> dict[str, Any]:
    """Take a Session to another thread, and play A and B with a Session each, for every way to make an engine.

    Args:
        file: where a database may be made.

    Returns:
        By way: the class of the ``pool``; what a second thread is told ``within`` a transaction that the first began in
        the same Session, and ``between`` transactions. Where they meet: what both are told and what is stored when A
        ``pays in`` and B rolls back, and when A ``transfers`` and B commits.
    """
    a, b = Lane("A"), Lane("B")
    return {way: _played(way, file, a, b) for way in WAYS}


def _played(way: str, file: str, a: Lane, b: Lane) -> dict[str, Any]:
    engine = WAYS[way](file)
    # A database in memory is there for as long as a connection.
    keeper = a.do(engine.connect)
    a.do(lambda: _open(engine))
    session = Session(engine)
    a.do(lambda: _read(session))
    seen = {"pool": type(engine.pool).__name__, "within": _masked(b.told(lambda: _read(session)))}
    a.do(session.rollback)
    seen["between"] = _masked(b.told(lambda: _read(session)))
    b.told(session.rollback)
    for name, tell, how in (("pays in", pays_in, "reads, rollback()"), ("transfers", transfers, "reads, commit()")):
        if way in MEET:
            a.do(lambda: _open(engine))
            of_a, of_b = sessions(engine, EACH)
            told = tell(a, b, of_a, of_b, how)
            b.do(of_b.close)
            a.do(of_a.close)
            seen[name] = {**told, "stored": a.do(lambda: _stored(engine))}
    a.do(keeper.close)
    a.do(engine.dispose)
    return seen


def _open(engine: Engine) -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])


def _read(session: Session) -> str:
    session.scalars(select(Account.balance)).all()
    return OK


def _stored(engine: Engine) -> list[int]:
    with Session(engine) as session:
        return list(session.scalars(select(Account.balance).order_by(Account.id)))


def _masked(message: str) -> str:
    """*message* without the ids of threads."""
    return re.sub(r"\d{5,}", "…", message)
