# SPDX-License-Identifier: 0BSD
# Recipe: fresh_reads, version 1 (Forks, Threads and Sessions, /docs/recipes/#fresh-reads)
"""Read what the database holds now, or be told why that cannot be: never an old value without a word.

Problem: what a long-lived Session shows can be old for two reasons, and each common call cures one at most. An object
that something holds keeps its attributes, whatever is queried; a transaction that keeps a snapshot answers even
``refresh()`` from it. ``rollback()`` ends both, and with them all work that was not committed, without a word.

Use it when: a Session lives longer than one request or job, and some of its reads must be current.
Not when: each request or job has a Session of its own, closed at its end; then every first read is fresh. Nor when the
transaction writes past SQLAlchemy (a driver's own cursor, a function called in a SELECT): ``restart`` cannot know. Nor
for a replica that lags: it shows what it has, and read_your_writes goes to the primary.

================================  ==================================  ================================================
call                              costs                               refuses, with an error
================================  ==================================  ================================================
``reread(session, obj)``          SELECT, and what the isolation is   in a snapshot; if *obj* has changes
``restart(session)``              ROLLBACK; all objects load anew     if anything but reading was done since BEGIN
``locked(session, Entity, key)``  SELECT FOR UPDATE; others wait      if the object has changes; on SQLite, SQL Server
================================  ==================================  ================================================

Call :func:`watch` once, where the sessionmaker is made. For an AsyncSession: ``watch`` its ``sync_session_class``, and
``await session.run_sync(reread, obj)``. Of a ``scoped_session`` give ``registry()``, the Session itself.

>>> import tempfile
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
>>> class Base(DeclarativeBase): pass
>>> class Page(Base):
...     __tablename__ = "page"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     body: Mapped[str]
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/shop.db")
>>> Base.metadata.create_all(engine)
>>> make_session = watch(sessionmaker(engine))
>>> with make_session.begin() as session:
...     session.add(Page(id=1, body="old"))
>>> session = make_session()
>>> page = session.get(Page, 1)
>>> with engine.begin() as others:
...     _ = others.execute(text("update page set body = 'new'"))
>>> session.get(Page, 1).body
'old'
>>> reread(session, page)
>>> page.body
'new'
>>> page.body = "mine"
>>> restart(session)
Traceback (most recent call last):
fresh_reads.WouldLose: not committed yet, so commit() or rollback() yourself: a change of Page
>>> session.commit()
>>> restart(session)
>>> session.get(Page, 1).body
'mine'
>>> session.close(); engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL, MariaDB and SQLite. What SQLAlchemy says of it:
https://docs.sqlalchemy.org/en/21/orm/session_state_management.html#when-to-expire-or-refresh
"""

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, event, inspect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

_KEY = "fresh_reads"
_SNAPSHOTS = {"REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"}
_WITHOUT_LOCKS = {"sqlite", "mssql"}
# A word too many, in a string or a name, makes restart() refuse; a word too few would make it lose something.
_MORE = r"into|for\s+(no\s+)?(key\s+)?(update|share)|lock\s+in"
_PLAIN_READ = re.compile(rf"\s*select\b(?!.*\b({_MORE})\b)", re.IGNORECASE | re.DOTALL)


class KeepsSnapshot(InvalidRequestError):
    """The transaction would answer from its snapshot, which may be old. Nothing has been read."""


class WouldLose(InvalidRequestError):
    """Work that is not committed would be lost. It is still there."""


def watch(make_session: Any) -> Any:
    """Let :func:`restart` know what is done in the Sessions of a sessionmaker, scoped_session or Session class.

    Returns *make_session*.
    """
    event.listen(make_session, "after_transaction_create", _created)
    event.listen(make_session, "after_begin", _begun)
    event.listen(make_session, "after_transaction_end", _ended)
    return make_session


def reread(session: Session, *objects: object) -> None:
    """Load *objects* anew from the database.

    Raises:
        KeepsSnapshot: the transaction is one that would show the same again; :func:`restart` it, or see :func:`locked`.
        WouldLose: one of them has changes that are not flushed; ``refresh()`` drops them.
    """
    _refuse(filter(session.is_modified, objects))
    for mapper in {inspect(one).mapper for one in objects}:
        if session.in_transaction() and keeps_snapshot(session, mapper):
            raise KeepsSnapshot(f"this transaction goes on showing {mapper.class_.__name__} as it began; restart() it")
    for one in objects:
        session.refresh(one)


def restart(session: Session) -> None:
    """End the transaction, which has only read, so that the next read sees what is committed by then.

    Raises:
        WouldLose: there is more to lose than reads: a change, flushed or not, a lock, a savepoint, a setting, a
            transaction that began outside of the Session. Or nobody called :func:`watch`.
    """
    _refuse([*session.new, *session.deleted, *filter(session.is_modified, session.dirty)])
    if session.in_transaction():
        done = session.info.get(_KEY, ["what the transaction did before watch() was called"])
        if done:
            raise WouldLose(f"not committed yet, so commit() or rollback() yourself: {' '.join(done[0].split())[:200]}")
        session.rollback()
    # Without a transaction rollback() does nothing, and expire_on_commit=False leaves what a commit has made old.
    session.expire_all()


def locked(session: Session, entity: type, key: Any) -> Any:
    """The row of *entity* with that primary *key* as it is now, kept so until the transaction ends; None if it is gone.

    In PostgreSQL's REPEATABLE READ the database refuses, with an OperationalError, a row that has changed since the
    transaction began. In MariaDB's it is current, and every other read of the transaction as old as before.

    Raises:
        WouldLose: the object has changes that are not flushed.
        InvalidRequestError: the database has no row locks.
    """
    _refuse(filter(session.is_modified, filter(None, [session.identity_map.get(session.identity_key(entity, key))])))
    if (name := session.get_bind(entity).dialect.name) in _WITHOUT_LOCKS:
        raise InvalidRequestError(f"{name} has no SELECT FOR UPDATE: SQLAlchemy would leave it out, and lock nothing")
    # A select().with_for_update() locks the row and keeps the old attributes of an object that is loaded already.
    return session.get(entity, key, with_for_update=True, populate_existing=True)


def keeps_snapshot(session: Session, mapper: Any = None) -> bool:
    """Whether the session's transaction goes on showing what its first read saw. It is begun if it was not."""
    connection = session.connection(bind_arguments={"mapper": mapper} if mapper else {})
    if connection.dialect.name == "sqlite":
        # Python's driver begins nothing before a SELECT, unless it is told to.
        return connection.connection.driver_connection.in_transaction
    return connection.get_isolation_level() in _SNAPSHOTS and not _commits_by_itself(connection)


def _commits_by_itself(connection: Connection) -> bool:
    driver = connection.connection.dbapi_connection
    told = driver.get_autocommit() if hasattr(driver, "get_autocommit") else getattr(driver, "autocommit", False)
    return told is True


def _refuse(changed: Iterable[object]) -> None:
    if names := sorted({type(one).__name__ for one in changed}):
        raise WouldLose(f"not committed yet, so commit() or rollback() yourself: a change of {', '.join(names)}")


def _created(session, transaction) -> None:
    if transaction.parent is None:
        session.info[_KEY] = []


def _begun(session, transaction, connection) -> None:
    done = session.info.get(_KEY)
    if done is None or transaction.nested:
        return
    if connection is session.bind:
        done.append("a transaction that began outside of this Session")
        return

    @event.listens_for(connection, "before_cursor_execute")
    def execute(connection, cursor, statement, parameters, context, executemany):
        if not done and not _PLAIN_READ.match(statement):
            done.append(statement)


def _ended(session, transaction) -> None:
    if transaction.parent is None:
        session.info.pop(_KEY, None)
