# SPDX-License-Identifier: 0BSD
# Recipe: retry_transaction, version 1 (Forks, Threads and Sessions, /docs/recipes/#retry-transaction)
"""A transaction that the database turned down, because of another one, is done again from its start.

Problem: where transactions meet, the database ends one of them, by a deadlock or because they could not have run one
after the other. That is no mistake of the program: what is asked of it is to do the whole transaction again. Retrying
the statement does not help, nor does the same Session: what it has read is what was refused.

Use it when: transactions run at REPEATABLE READ or SERIALIZABLE, take locks on several rows, or map a version_id_col.
Not when: the Session writes to two databases, or under AUTOCOMMIT, or in a transaction that somebody else has begun;
then the work of one attempt outlives it. Nor under asyncio: write the same loop there, and ask :func:`transient`.

Each attempt has a new Session and a transaction of its own, which is committed when *work* returns. So *work* must be
a function that can be done twice: it reads what it needs from its Session, gives back plain values and not objects of
the Session, lets the database's errors pass, and does not commit. Mails are sent after :func:`retry` has returned.
:func:`transactional` is the same as a decorator.

Done again are deadlocks (SQLSTATE 40P01, MySQL 1213), serialization failures (40001, MariaDB 1020), a lock that was
waited for in vain (MySQL 1205) and SQLite's "database is locked". The last two have already waited, 50 and 5 seconds
by default, and each attempt may wait as long. 1205 undoes a statement and leaves its transaction open; here the whole
transaction is rolled back. All other errors are raised at once. So is a connection lost during the commit: nobody
knows whether it took effect, and doing it again might do it twice.

>>> import tempfile
>>> from sqlalchemy import create_engine
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
>>> from sqlalchemy.orm.exc import StaleDataError
>>> class Base(DeclarativeBase): pass
>>> class Account(Base):
...     __tablename__ = "account"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     balance: Mapped[int]
...     version: Mapped[int] = mapped_column()
...     __mapper_args__ = {"version_id_col": version}
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/shop.db")
>>> Base.metadata.create_all(engine)
>>> make_session = sessionmaker(engine)
>>> with make_session.begin() as session:
...     session.add(Account(id=1, balance=100))
>>> def pay_in(session):
...     account = session.get_one(Account, 1)
...     if meanwhile:  # Somebody else pays in.
...         retry(make_session, meanwhile.pop())
...     account.balance += 10
...     return account.balance
>>> meanwhile = [pay_in]
>>> retry(make_session, pay_in, also=[StaleDataError])
120
>>> engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1, psycopg2, psycopg, pg8000, PyMySQL, mysqlclient, mysql-connector and sqlite3. The
errors are described in https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
"""

import functools
import inspect
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

log = logging.getLogger("retry_transaction")

# Serialization failure and deadlock; the same on MySQL, and a lock that was waited for in vain.
REFUSED = {"40001", "40P01", 1213, 1020, 1205, "SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT"}
# MySQL has rolled the whole transaction back, and the savepoint that was to be rolled back next is no more.
NO_SAVEPOINT = 1305


def retry(
    make_session: Callable[[], Session],
    work: Callable[[Session], Any],
    *,
    attempts: int = 5,
    first: float = 0.05,
    longest: float = 2.0,
    also: Iterable[type[Exception]] = (),
) -> Any:
    """Call *work* with a new Session and commit; do it again where another transaction was in the way.

    Args:
        make_session: a ``sessionmaker``, or what else makes a new Session at each call.
        attempts: how often it is tried at most.
        first: it sleeps up to so many seconds before the second attempt, up to twice that before the third, and so on.
        longest: the seconds that it sleeps at most.
        also: further errors that are done again, as ``StaleDataError``, which a version_id_col raises.

    Returns:
        What *work* has returned in the attempt that was committed.

    Raises:
        Exception: what *work* or the commit raised, with a note if no attempt is left.
        TypeError: *work* is a coroutine function or a generator function.
        ValueError: *attempts* is less than one, or a Session is bound to a connection.
    """
    if attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {attempts}")
    _plain(work)
    also = tuple(also)
    for attempt in range(1, attempts + 1):
        try:
            with make_session() as session:
                if isinstance(session.bind, Connection):
                    raise ValueError("the Session is bound to a connection: its transaction would outlive the attempt")
                with session.begin():
                    result = work(session)
            return result
        except Exception as problem:
            if not (transient(problem) or isinstance(problem, also)):
                raise
            if attempt == attempts:
                problem.add_note(f"retry_transaction: given up after {attempts} attempts")
                raise
            log.info("attempt %d of %d: %s", attempt, attempts, problem)
        # All are here because they met; by chance they will not wake up together.
        time.sleep(random.uniform(0, min(longest, first * 2 ** min(attempt - 1, 30))))


def transactional(
    make_session: Callable[[], Session], **how: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function of a Session and more: it is called without the Session, and done by :func:`retry`."""

    def decorate(work: Callable[..., Any]) -> Callable[..., Any]:
        _plain(work)

        @functools.wraps(work)
        def run(*args: Any, **kwargs: Any) -> Any:
            return retry(make_session, lambda session: work(session, *args, **kwargs), **how)

        return run

    return decorate


def transient(problem: BaseException) -> bool:
    """Whether the database has turned down a transaction, which is undone, that may well succeed another time."""
    if not isinstance(problem, DBAPIError) or problem.connection_invalidated:
        return False
    told = _codes(problem.orig)
    if NO_SAVEPOINT in told and problem.__context__:
        return transient(problem.__context__)
    return bool(told & REFUSED)


def _codes(error: Any) -> set[Any]:
    """What the driver says of an *error*: its SQLSTATE, MySQL's number, SQLite's name."""
    said = error.args[0] if getattr(error, "args", None) else None
    # pg8000 passes on the fields of the server's message.
    said = said.get("C") if isinstance(said, dict) else said
    return {said, *(getattr(error, name, None) for name in ("sqlstate", "pgcode", "errno", "sqlite_errorname"))}


def _plain(work: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(work) or inspect.isgeneratorfunction(work) or inspect.isasyncgenfunction(work):
        raise TypeError(f"{work!r} does its work only after it has returned; a plain function is needed")
