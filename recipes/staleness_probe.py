# SPDX-License-Identifier: 0BSD
# Recipe: staleness_probe, version 1 (Forks, Threads and Sessions, /docs/recipes/#staleness-probe)
"""Say why a Session shows something old, in a test suite or in a shell, and change nothing by asking.

Problem: an old value has several causes, each with another remedy: an object that is held, a transaction's snapshot, a
replica that lags, a change that nobody has committed. The usual checks cannot tell them apart: a query through the same
Session agrees with the object that it returns, and ``refresh()`` or ``rollback()`` destroys what was to be examined.

Use it when: a value is not what you expect, or as ``assert_fresh`` at the end of a test that must not read old data.
Not when: the database is SQLite in memory, which has one connection and therefore no second opinion; nor where readers
wait for writers, as in SQL Server by default. Nor in production code: it reads five times, on three connections. In a
snapshot it takes what the transaction itself has changed, but past the ORM, for somebody else's change.

It compares four: the object's attributes; its row through the session's own transaction, if there is one; through a new
transaction on the session's engine; and, if *truth* is given, on that engine, the primary. A ``select()`` may stand for
the object: then its rows are compared. Nothing is flushed, refreshed, expired, begun or ended in the session. For an
AsyncSession: ``await session.run_sync(diagnose, obj)``. Of a ``scoped_session`` give ``registry()``, its Session.

>>> import tempfile
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
>>> class Base(DeclarativeBase): pass
>>> class Page(Base):
...     __tablename__ = "page"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     body: Mapped[str]
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/shop.db")
>>> Base.metadata.create_all(engine)
>>> with Session(engine) as session, session.begin():
...     session.add(Page(id=1, body="old"))
>>> session = Session(engine)
>>> page = session.get(Page, 1)
>>> diagnose(session, page).cause.name
'FRESH'
>>> with engine.begin() as others:
...     _ = others.execute(text("update page set body = 'new'"))
>>> print(diagnose(session, page).text)
held object: body is 'old', committed is 'new'. Something holds the object; refresh() it, or end the transaction.
>>> assert_fresh(session, page)
Traceback (most recent call last):
AssertionError: held object: body is 'old', committed is 'new'. Something holds the object; refresh() it, or end the \
transaction.
>>> session.close(); engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL, with a replica, MariaDB and SQLite. What is compared is described in
https://docs.sqlalchemy.org/en/21/faq/sessions.html#i-m-re-loading-data-with-my-session-but-it-isn-t-seeing-changes-that-i-committed-elsewhere
"""

import reprlib
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Column, Connection, Engine, Select, SingletonThreadPool, StaticPool, inspect, select
from sqlalchemy.orm import InstanceState, Session, object_session


class Cause(Enum):
    """Why it is not what somebody expects, and what to do."""

    FRESH = "The session shows what is committed."
    HELD_OBJECT = "Something holds the object; refresh() it, or end the transaction."
    SNAPSHOT = "The transaction began before that; end it, as refresh() does not help."
    REPLICA = "The session reads from a database that lags behind; read from the primary."
    UNFLUSHED_CHANGE = "Only this Session knows of it; commit() or rollback()."
    UNCOMMITTED_CHANGE = "Only this transaction sees it; commit() or rollback()."
    NOT_COMMITTED_YET = "Nobody has committed what you expect; look at the writer."


@dataclass(frozen=True)
class Diagnosis:
    """What was found, with a line of text for people."""

    cause: Cause
    text: str


def diagnose(session: Session, what: Any, *, truth: Any = None, expected: Any = None) -> Diagnosis:
    """Say why *session* shows of *what* what it shows.

    Args:
        what: an object of the session, or a ``select()``.
        truth: the engine of the primary, where the session may read from a replica. Without it none is found out.
        expected: what should be committed by now: of an object some attributes, as a dict; of a ``select()`` the rows.

    Raises:
        ValueError: the object is not in this session, or its database has one connection only.
    """
    state = None if isinstance(what, Select) else inspect(what)
    if state and object_session(what) is not session:
        raise ValueError(f"{type(what).__name__} is not an object of this session")
    if state and (changed := _changed(session, state)):
        return _diagnosis(Cause.UNFLUSHED_CHANGE, changed)
    names, statement = _columns_of(state) if state else (None, what)
    bind = session.get_bind(state and state.mapper, clause=statement)
    transaction = _transaction(session, bind.engine)

    def read(connection: Connection) -> Any:
        rows = [tuple(row) for row in connection.execute(statement)]
        return [dict(zip(names, row, strict=True)) for row in rows] if names else rows

    def anew(engine: Engine) -> Any:
        if isinstance(engine.pool, SingletonThreadPool | StaticPool):
            raise ValueError("this database has one connection only, so there is nothing to compare with")
        with engine.connect() as connection:
            return read(connection)

    for _ in range(3):
        own, new = transaction and read(transaction), anew(bind.engine)
        committed = anew(getattr(truth, "sync_engine", truth)) if truth else new
        # Else somebody has committed meanwhile.
        if (own, new) == (transaction and read(transaction), anew(bind.engine)):
            break
    own = own if transaction else new
    held = [{name: state.dict[name] for name in names}] if state and names[0] in state.dict else own
    if own != new and (_flushed(session, state) or transaction.get_isolation_level().startswith("READ")):
        return _diagnosis(Cause.UNCOMMITTED_CHANGE, _difference(own, new))
    wanted = [{**row, **expected} for row in committed or [{}]] if state and expected else expected
    if wanted is not None and wanted != committed:
        return _diagnosis(Cause.NOT_COMMITTED_YET, _difference(committed, wanted, "expected"))
    compared = {Cause.REPLICA: (new, committed), Cause.SNAPSHOT: (own, new), Cause.HELD_OBJECT: (held, own)}
    for cause, (one, other) in compared.items():
        if one != other:
            return _diagnosis(cause, _difference(held if state else one, committed))
    return _diagnosis(Cause.FRESH)


def assert_fresh(session: Session, what: Any, **how: Any) -> None:
    """Raise an AssertionError that names the cause, unless *session* shows what is committed."""
    found = diagnose(session, what, **how)
    if found.cause is not Cause.FRESH:
        raise AssertionError(found.text)


def _changed(session: Session, state: InstanceState) -> str:
    if state.pending or state.object in session.deleted:
        return "the new object" if state.pending else "delete()"
    return ", ".join(attribute.key for attribute in state.attrs if attribute.history.has_changes())


def _columns_of(state: InstanceState) -> tuple[list[str], Select]:
    """The attributes that are loaded, or all if none is, and the statement that reads them."""
    columns = [attr.key for attr in state.mapper.column_attrs if isinstance(attr.columns[0], Column)]
    names = [name for name in columns if name in state.dict] or columns
    key = [column == value for column, value in zip(state.mapper.primary_key, state.identity, strict=True)]
    return names, select(*(getattr(state.mapper.class_, name) for name in names)).where(*key)


def _transaction(session: Session, engine: Engine) -> Connection | None:
    """The connection that the session's transaction has by now; none is taken, and no transaction begun."""
    root = session.get_transaction() if session.is_active else None
    # SQLAlchemy 2.1.7 has the public bound_connection() for this.
    taken = [entry[0] for entry in root._connections.values()] if root else []
    return next((connection for connection in taken if connection.engine is engine), None)


def _flushed(session: Session, state: InstanceState | None) -> bool:
    transaction = session.get_nested_transaction() or session.get_transaction()
    while transaction:
        # Nothing public tells of it.
        if any(state in part for part in (transaction._new, transaction._dirty, transaction._deleted) if state):
            return True
        transaction = transaction.parent
    return False


def _difference(shown: list, other: list, called: str = "committed") -> str:
    if len(shown) == len(other) == 1 and isinstance(shown[0], dict):
        pairs = [(name, reprlib.repr(shown[0][name]), reprlib.repr(other[0].get(name))) for name in shown[0]]
        return ", ".join(f"{name} is {one}, {called} is {two}" for name, one, two in pairs if one != two)
    return f"{reprlib.repr(shown)}, {called} is {reprlib.repr(other)}"


def _diagnosis(cause: Cause, difference: str = "") -> Diagnosis:
    name = cause.name.lower().replace("_", " ")
    return Diagnosis(cause, f"{name}: {difference}{'. ' if difference else ''}{cause.value}")
