"""One request keeps an object for the next: in between somebody else changes the row, and the next reads it and writes.

Each request is a thread of its own, and the next one starts when the last is over.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, ForeignKey, create_engine, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from lab.drivers import spoken
from lab.scenes.staleness import Log, logged


class Base(DeclarativeBase):
    """What this scene maps."""


class Account(Base):
    __tablename__ = "topic_account"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    notes: Mapped[list[Note]] = relationship()


class Note(Base):
    __tablename__ = "topic_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("topic_account.id"))


class Versioned(Base):
    __tablename__ = "topic_versioned"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - as SQLAlchemy has it


KINDS = {"plain": Account, "version counter": Versioned}
Kept = Any
Keep = Callable[[Session, type], Kept]
Take = Callable[[Session, type, Kept], Any]


def _closed(session: Session, kind: type) -> Kept:
    kept = session.get_one(kind, 1)
    session.close()
    return kept


def _committed(session: Session, kind: type) -> Kept:
    kept = session.get_one(kind, 1)
    session.commit()
    session.close()
    return kept


def _left_open(session: Session, kind: type) -> Kept:
    return session.get_one(kind, 1)


def _key(session: Session, kind: type) -> Kept:
    key = session.get_one(kind, 1).id
    session.close()
    return key


KEEPS: dict[str, Keep] = {
    "object, closed": _closed,
    "object, committed and closed": _committed,
    "object, Session left open": _left_open,
    "primary key": _key,
}


def _add(session: Session, kind: type, kept: Kept) -> Any:
    session.add(kept)
    return kept


def _add_and_refresh(session: Session, kind: type, kept: Kept) -> Any:
    session.add(kept)
    session.refresh(kept)
    return kept


def _merge_over_loaded(session: Session, kind: type, kept: Kept) -> Any:
    # What the session knows already is new.
    loaded = session.get_one(kind, 1)
    session.merge(kept, load=False)
    return loaded


TAKES: dict[str, Take] = {
    "as it is": lambda session, kind, kept: kept,
    "add()": _add,
    "merge(load=False)": lambda session, kind, kept: session.merge(kept, load=False),
    "loaded before, merge(load=False)": _merge_over_loaded,
    "merge()": lambda session, kind, kept: session.merge(kept),
    "add(), refresh()": _add_and_refresh,
    "get() by the key": lambda session, kind, kept: session.get_one(
        kind, kept if isinstance(kept, int) else kept.__mapper__.identity_key_from_instance(kept)[1]
    ),
}


def main(engine: Mapping[str, Any], plays: list[tuple[str, str, str]], trials: int) -> list[list[dict[str, Any]]]:
    """Play each of *plays*, a kind, a way to keep and a way to take, *trials* times.

    Args:
        engine: arguments of ``create_engine``.

    Returns:
        For each play a list of trials: ``selects``, how many were sent as the next request took what was kept;
        ``read``, the balance that it saw; ``stored``, the balance in the database after it left that alone and
        committed; ``paid``, that balance if it paid in 10 instead; ``lazy``, how many notes it found; ``held``, the
        connections that stay checked out between the requests. What fails is ``None``, and ``raised`` tells what was
        raised in ``read``, ``lazy`` and ``paid``. ``sql`` is what was sent as it read and committed.
    """
    first = create_engine(**engine, echo="debug")
    other = create_engine(**engine)
    Base.metadata.create_all(other)
    with Session(other) as session, session.begin():
        session.add_all([Account(id=1, balance=100, notes=[Note(id=1)]), Versioned(id=1, balance=100)])
    try:
        return [[_play(first, other, *play) for _ in range(trials)] for play in plays]
    finally:
        first.dispose()
        Base.metadata.drop_all(other)


def _play(first: Engine, other: Engine, kind: str, keep: str, take: str) -> dict[str, Any]:
    way = first, other, KINDS[kind], KEEPS[keep], TAKES[take]
    read, lazy, paid = (_two_requests(*way, use) for use in (_read, _lazy, _pay))
    raised = {name: seen["raised"] for name, seen in (("read", read), ("lazy", lazy), ("paid", paid)) if seen["raised"]}
    return {
        "selects": sum(line.startswith("SELECT") for line in read["log"].told[: read.get("taken", 0)]),
        "read": read.get("value"),
        "stored": read["stored"],
        "paid": paid["stored"] if "paid" not in raised else None,
        "lazy": lazy.get("value"),
        "held": read["held"],
        "raised": raised,
        "sql": read["log"].told,
    }


def _read(session: Session, kept: Any) -> int:
    return kept.balance


def _lazy(session: Session, kept: Any) -> int:
    return len(kept.notes) if isinstance(kept, Account) else 0


def _pay(session: Session, kept: Any) -> int:
    kept.balance = kept.balance + 10
    return kept.balance


def _two_requests(
    first: Engine, other: Engine, kind: type, keep: Keep, take: Take, use: Callable[[Session, Any], int]
) -> dict[str, Any]:
    _store(other, kind, 100, version=1)
    made = Session(first)
    kept = _in_a_thread(lambda: keep(made, kind))
    held = first.pool.checkedout()
    _store(other, kind, 500, version=2)
    seen: dict[str, Any] = {"raised": "", "held": held}

    def next_request() -> None:
        with logged() as log:
            seen["log"] = log
            try:
                _serve(first, kind, kept, take, use, seen, log)
            except SQLAlchemyError as problem:
                seen["raised"] = re.sub(" at 0x[0-9a-f]+", "", spoken(problem)).partition("\n")[0]

    _in_a_thread(next_request)
    made.close()
    seen["stored"] = _stored(other, kind)
    return seen


def _serve(
    first: Engine, kind: type, kept: Any, take: Take, use: Callable[[Session, Any], int], seen: dict[str, Any], log: Log
) -> None:
    with Session(first) as session:
        taken = take(session, kind, kept)
        seen["taken"] = len(log.told)
        seen["value"] = use(session, taken)
        session.commit()


def _in_a_thread(work: Callable[[], Any]) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    thread.join()
    return answers[0]


def _store(engine: Engine, kind: type, balance: int, version: int) -> None:
    values = {"balance": balance} | ({"version": version} if kind is Versioned else {})
    with engine.begin() as connection:
        connection.execute(update(kind.__table__).where(kind.__table__.c.id == 1).values(values))


def _stored(engine: Engine, kind: type) -> int:
    with engine.connect() as connection:
        return connection.execute(kind.__table__.select()).one().balance
