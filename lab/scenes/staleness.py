"""Two Sessions in one process: the first loads a row, another commits a new value, and the first reads again.

Nothing is left to chance: the three steps follow one another in one thread, and the garbage collector is off.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, String, create_engine, event, make_url, select, text, update
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lab.drivers import spoken

WAL = "BEGIN in WAL mode"
FRESH = {"populate_existing": True}


class Base(DeclarativeBase):
    """What the scenes about staleness map."""


class Page(Base):
    __tablename__ = "stale_page"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(20))


THE_PAGE = select(Page).where(Page.id == 1)
Read = Callable[[Session, Any], str]


def _by_select(session: Session, statement=THE_PAGE, **options: object) -> str:
    return session.scalars(statement, execution_options=options).one().body


def _by_get(session: Session, **how: object) -> str:
    return session.get_one(Page, 1, **how).body


def _after(step: Callable[[Session, Any], object], then: Read) -> Read:
    def read(session: Session, page: Any) -> str:
        step(session, page)
        return then(session, page)

    return read


def _attribute(session: Session, page: Page) -> str:
    return page.body


def _get(session: Session, page: object) -> str:
    return _by_get(session)


def _savepoint(session: Session, page: object) -> None:
    nested = session.begin_nested()
    # Without a use of the connection there would be no savepoint.
    session.connection()
    nested.rollback()


# Those that need the object, of which a Session that released it has none.
OF_THE_OBJECT: dict[str, Read] = {
    "attribute": _attribute,
    "refresh()": _after(lambda session, page: session.refresh(page), _attribute),
    "refresh(with_for_update=True)": _after(
        lambda session, page: session.refresh(page, with_for_update=True), _attribute
    ),
    "expire(), attribute": _after(lambda session, page: session.expire(page), _attribute),
    "expire_all(), attribute": _after(lambda session, page: session.expire_all(), _attribute),
}
READS: dict[str, Read] = OF_THE_OBJECT | {
    "get()": _get,
    "select(Entity)": lambda session, page: _by_select(session),
    "select(column)": lambda session, page: session.scalars(select(Page.body).where(Page.id == 1)).one(),
    "text()": lambda session, page: session.scalars(text("SELECT body FROM stale_page WHERE id = 1")).one(),
    "populate_existing": lambda session, page: _by_select(session, **FRESH),
    "with_for_update()": lambda session, page: _by_select(session, THE_PAGE.with_for_update()),
    "with_for_update(), populate_existing": lambda session, page: _by_select(
        session, THE_PAGE.with_for_update(), **FRESH
    ),
    "get(with_for_update=True)": lambda session, page: _by_get(session, with_for_update=True),
    "savepoint rolled back, get()": _after(_savepoint, _get),
    "expunge_all(), select(Entity)": _after(
        lambda session, page: session.expunge_all(), lambda session, page: _by_select(session)
    ),
    "rollback(), get()": _after(lambda session, page: session.rollback(), _get),
    "commit(), get()": _after(lambda session, page: session.commit(), _get),
    "close(), get()": _after(lambda session, page: session.close(), _get),
}


def main(engine: Mapping[str, Any], isolations: Sequence[str], trials: int) -> dict[str, Any]:
    """Play every read at each of *isolations*, with the object held and released, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        isolations: levels as ``create_engine`` takes them; any other name stands for the driver's own.

    Returns:
        Under ``columns``, by isolation and "held" or "released", a list of trials: mappings from the name of a read to
        ``outcome``, ``message``, ``sql`` (the statements, and the rows that came back) and ``in_map`` (how many objects
        the Session knew after it had loaded the row). Under ``default`` the server's own level.
    """
    gc.disable()
    columns = {}
    for isolation in isolations:
        first, other = engines(engine, isolation)
        Base.metadata.create_all(other)
        with writing(other) as session:
            session.add(Page(id=1, body="old"))
        columns[isolation] = {
            held: [{name: _play(first, other, name, held == "held") for name in READS} for _ in range(trials)]
            for held in ("held", "released")
        }
        Base.metadata.drop_all(other)
        default = other.dialect.default_isolation_level
        first.dispose()
        other.dispose()
    return {"columns": columns, "default": default}


def engines(arguments: Mapping[str, Any], isolation: str) -> tuple[Engine, Engine]:
    """One for the Session that reads, at *isolation*, and one for the Session that writes, which waits for no lock."""
    url = make_url(arguments["url"])
    if isolation == WAL:
        # A database in this mode is in it for all.
        url = url.set(database=f"{url.database}.{WAL.split()[2]}")
    level = {"isolation_level": isolation} if isolation.isupper() else {}
    first = create_engine(**{**arguments, "url": url}, **level, echo="debug")
    other = create_engine(**{**arguments, "url": url})
    if isolation == WAL:
        for each in (first, other):
            _begin_in_wal_mode(each)
    if url.get_backend_name() == "mysql":
        event.listen(other, "connect", lambda dbapi, _: dbapi.query("SET innodb_lock_wait_timeout = 0"))
    return first, other


def _begin_in_wal_mode(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def connect(dbapi: Any, _: object) -> None:
        dbapi.isolation_level = None
        dbapi.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Another Session, in a transaction that is committed."""
    with Session(engine) as session, session.begin():
        yield session


def write(engine: Engine, body: str) -> None:
    with writing(engine) as session:
        session.execute(update(Page.__table__).where(Page.id == 1).values(body=body))


class Log(logging.Handler):
    """What ``echo="debug"`` tells of a Session's dealings: its statements, and the rows that came back."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        words = " ".join(record.getMessage().split())
        if words.startswith("Row ") or not words.startswith(("[", "Col ", "BEGIN (implicit)")):
            self.told.append(words)

    @property
    def statements(self) -> int:
        return sum(line.startswith(("SELECT", "UPDATE")) for line in self.told)


@contextlib.contextmanager
def logged() -> Iterator[Log]:
    """Listen to the engines that were made with ``echo="debug"`` until the block ends."""
    logger = logging.getLogger("sqlalchemy.engine.Engine")
    logger.propagate, logger.handlers = False, [log := Log()]
    try:
        yield log
    finally:
        logger.handlers = [logging.NullHandler()]


def _play(first: Engine, other: Engine, name: str, held: bool) -> dict[str, Any]:
    write(other, "old")
    with Session(first) as session:
        page: Any = session.get_one(Page, 1)
        if not held:
            page = None
        seen = {"in_map": len(session.identity_map), "sql": [], "message": ""}
        if not held and name in OF_THE_OBJECT:
            return {**seen, "outcome": "–"}
        try:
            write(other, "new")
        except OperationalError as problem:
            return {**seen, "outcome": "blocked", "message": spoken(problem)}
        with logged() as log:
            try:
                seen["outcome"] = READS[name](session, page)
            except DBAPIError as problem:
                seen |= {"outcome": "error", "message": spoken(problem)}
        return {**seen, "sql": log.told}
