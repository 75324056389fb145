"""A Session is closed, then used once more: by whoever closed it, after its block, or in a body that is streamed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from lab.drivers import spoken

# What a backend says of itself when it is in a transaction, as another connection sees it.
IDS = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT connection_id()"}
OPEN = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE pid = :id AND state = 'idle in transaction'",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = :id",
}


class Base(DeclarativeBase):
    """What this scene maps."""


class Page(Base):
    __tablename__ = "topic_page"
    id: Mapped[int] = mapped_column(primary_key=True)


Use = Callable[[Session], Any]


def _query(session: Session) -> int:
    return session.get_one(Page, 1).id


def _add(session: Session) -> int:
    session.add(Page(id=2))
    session.flush()
    return 1


def _begin(session: Session) -> int:
    session.begin()
    return _query(session)


USES: dict[str, Use] = {"get()": _query, "add(), flush()": _add, "begin(), get()": _begin}


def _after_close(make: Callable[[], Session], use: Use) -> int:
    session = make()
    _query(session)
    session.close()
    return use(session)


def _after_block(make: Callable[[], Session], use: Use) -> int:
    with make() as session:
        _query(session)
    return use(session)


def _streamed(make: Callable[[], Session], use: Use) -> int:
    def view() -> Iterator[int]:
        with make() as session:
            return (use(session) for _ in range(1))

    # The server takes the body's parts when the function that made it has returned.
    return next(view())


def _after_reset(make: Callable[[], Session], use: Use) -> int:
    session = make()
    _query(session)
    session.reset()
    try:
        return use(session)
    finally:
        session.close()


def _closed_again(make: Callable[[], Session], use: Use) -> int:
    session = make()
    session.close()
    try:
        return use(session)
    finally:
        session.close()


def _removed(make: Callable[[], Session], use: Use) -> int:
    registry = scoped_session(make)
    _query(registry)
    registry.remove()
    try:
        return use(registry)
    finally:
        registry.remove()


ENDS: dict[str, Callable[[Callable[[], Session], Use], int]] = {
    "close()": _after_close,
    "with block": _after_block,
    "with block, streamed": _streamed,
    "close(), and close() again": _closed_again,
    "reset(), and close()": _after_reset,
    "scoped_session.remove(), twice": _removed,
}


def main(engine: Mapping[str, Any], once: bool, trials: int) -> dict[str, Any]:
    """Play every end with every use *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        once: make the Session with ``close_resets_only=False``.

    Returns:
        By end and use a list of trials: ``answered``, whether the use worked; ``raised``, what it raised;
        ``checked_out``, the connections that did not come back to the pool, and ``open``, how many transactions the
        server knows of them.
    """
    first, other = create_engine(**engine), create_engine(**engine)
    Base.metadata.create_all(other)
    try:
        with other.begin() as connection:
            connection.execute(text("INSERT INTO topic_page (id) VALUES (1)"))
        return {
            end: {use: [_play(first, other, end, use, once) for _ in range(trials)] for use in USES} for end in ENDS
        }
    finally:
        Base.metadata.drop_all(other)


def _play(first: Engine, other: Engine, end: str, use: str, once: bool) -> dict[str, Any]:
    # The one connection of the pool, so that it is known which one the Session has.
    with first.connect() as connection:
        backend = connection.execute(text(IDS[first.dialect.name])).scalar_one()
    sessions: list[Session] = []
    make = sessionmaker(first, **({"close_resets_only": False} if once else {}))

    def made() -> Session:
        sessions.append(make())
        return sessions[-1]

    seen: dict[str, Any] = {"answered": False, "raised": ""}
    try:
        seen["answered"] = ENDS[end](made, USES[use]) == 1
    except InvalidRequestError as problem:
        seen["raised"] = spoken(problem)
    seen["checked_out"] = first.pool.checkedout()
    if first.dialect.name == "mysql":
        # InnoDB keeps its list of transactions for a tenth of a second after each look.
        time.sleep(0.2)
    with other.connect() as connection:
        seen["open"] = connection.execute(text(OPEN[first.dialect.name]), {"id": backend}).scalar_one()
    for session in sessions:
        session.reset()
    return seen
