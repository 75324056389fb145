# SPDX-License-Identifier: 0BSD
# Recipe: polling_worker, version 1 (Forks, Threads and Sessions, /docs/recipes/#polling-worker)
"""The loop of a worker that looks into the database again and again, and sees what has changed.

Problem: a worker that polls with one Session for life asks inside a transaction that began with its first question.
Under MySQL's default isolation it never sees a new job; under any, an object that it holds never changes; its idle
transaction stands in the way of every ALTER TABLE; and when its connection is lost, each further poll raises
PendingRollbackError.

Use it when: one process or thread asks the database for work, or for settings, every so often.
Not when: a queue hands out the work (Celery, RQ); give each job a Session of its own there. Nor for a job that takes
minutes: its transaction would, too. Let one step take it and commit that, and do the job outside of any Session.

Each poll has a Session and a transaction of its own, both over before the worker sleeps. A step that returns is
committed; what it raises rolls it back. Errors of the connection or of concurrency are logged ("polling_worker"), and
the step is tried again, after twice the time for each failure in a row; all others end the loop. A connection lost
during the commit leaves open whether it took effect: let a step bear being done twice.

>>> import tempfile, threading
>>> from sqlalchemy import create_engine, select
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
>>> class Base(DeclarativeBase): pass
>>> class Job(Base):
...     __tablename__ = "job"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     done: Mapped[bool] = mapped_column(default=False)
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/shop.db")
>>> Base.metadata.create_all(engine)
>>> make_session = sessionmaker(engine)
>>> with make_session.begin() as session:
...     session.add_all([Job(id=1), Job(id=2)])
>>> stop = threading.Event()  # in a program of its own: stop = Signals()
>>> def step(session):
...     job = claim(session, select(Job).where(~Job.done).order_by(Job.id))
...     if job is None:
...         stop.set()
...         return False
...     print("job", job.id)
...     job.done = True
...     return True
>>> poll(make_session, step, stop=stop)
job 1
job 2
>>> engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL and MariaDB. SKIP LOCKED is described in
https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE
"""

import logging
import queue
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy import Select
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.orm import Session

log = logging.getLogger("polling_worker")


class Signals:
    """Set by a signal, so that the worker ends after the step that it is in. To be made in the main thread.

    A ``threading.Event`` may not be set there: its lock can be held by the very thread that the handler interrupts.
    https://docs.python.org/3/library/queue.html#queue.SimpleQueue.put
    """

    def __init__(self, *signals: int):
        self._set = False
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        for one in signals or (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self.set)

    def set(self, *_: object) -> None:
        self._set = True
        self._calls.put(None)

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float) -> bool:
        """Sleep until it is set, *timeout* seconds at most, and say whether it is."""
        with suppress(queue.Empty):
            if not self._set:
                self._calls.get(timeout=timeout)
        return self._set


def poll(
    make_session: Callable[[], Session],
    step: Callable[[Session], object],
    *,
    every: float = 1.0,
    longest: float = 60.0,
    stop: Any,
) -> None:
    """Call *step* with a new Session until *stop* is set: at once again if it returns true, else after *every* seconds.

    Args:
        longest: the seconds after which it is tried again at the latest, however often it has failed.
        stop: a ``threading.Event``, or :class:`Signals`.

    Raises:
        Exception: what *step* raises, other than errors of the connection or of concurrency.
    """
    failures = 0
    while not stop.is_set():
        try:
            # A lost connection costs one failure at most: the pool gives up all that are older than the loss.
            with make_session() as session, session.begin():
                busy = step(session)
            failures = 0
        except DBAPIError as problem:
            if not (isinstance(problem, (OperationalError, InterfaceError)) or problem.connection_invalidated):
                raise
            failures, busy = failures + 1, False
            log.warning("failure %d in a row: %s", failures, problem.orig)
        if not busy:
            stop.wait(min(longest, every * 2 ** min(failures, 30)))


def claim(session: Session, statement: Select) -> Any:
    """The first object of *statement* that no other transaction has locked, locked until this one ends; None if none.

    SQLite has no such locks: there one worker at a time is safe, or an engine whose transactions begin with
    ``BEGIN IMMEDIATE``.
    """
    statement = statement.limit(1).with_for_update(skip_locked=True)
    return session.scalars(statement.execution_options(populate_existing=True)).first()
