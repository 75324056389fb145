# SPDX-License-Identifier: 0BSD
# Recipe: thread_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#thread-session)
"""Give every job of a thread a Session of its own, and tell when a Session is used in a thread that is not its own.

Problem: a Session that outlives its job, in a registry by thread or in a module, is found by the next job: with what
the last one changed, or with its failed transaction. And nothing in SQLAlchemy asks which thread a Session is used in:
one that was stored, or that comes along with an object, works in another thread, in the middle of the first one's
transaction.

Use it when: threads do the work, without a framework that knows where a request begins: a server of your own with a
thread per connection, a ThreadPoolExecutor, a scheduler.
Not when: a framework hands out Sessions by request; wsgi_session, flask_session and fastapi_session are made for that.
Nor under asyncio. And OneThread is not for a Session that is meant to wander: FastAPI's synchronous dependencies and
endpoints may run in one thread each.

>>> from concurrent.futures import ThreadPoolExecutor
>>> import tempfile
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/shop.db")
>>> make_session = sessionmaker(engine, class_=OneThread)
>>> with make_session.begin() as session:
...     _ = session.execute(text("create table page (body)"))
>>> @in_session(make_session)
... def save(session, body):
...     _ = session.execute(text("insert into page values (:body)"), {"body": body})
...     return session.scalar(text("select count(*) from page"))
>>> with ThreadPoolExecutor(max_workers=5) as pool:  # no more than pool_size + max_overflow of the engine
...     print(sorted(pool.map(save, ["one", "two", "three"])))
...     with make_session() as session:
...         print(pool.submit(session.scalar, text("select 1")).exception())  # doctest: +ELLIPSIS
[1, 2, 3]
Session of thread 'MainThread' used in thread 'ThreadPool...'; pass on primary keys, and load them ...
>>> engine.dispose()

A job that returns is committed, what it raises rolls it back, and its Session is closed in any case; a helper that it
calls is to be given the Session, and not to be a job itself, which would have another transaction. What a job returns
should be values: objects are expired and detached by then. OneThread costs a look at a ``threading.local`` for each
statement. It stops statements, flushes, lazy loads, ``commit()``, ``rollback()`` and ``close()``, with them
``close_all_sessions()``; neither ``add()`` nor a look at what is loaded. ``reset()`` and ``invalidate()`` are let pass.
Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL, MariaDB and SQLite. That a Session is for one thread at a time is said
in https://docs.sqlalchemy.org/en/21/orm/session_basics.html
"""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session

_here = threading.local()


def in_session(make_session: Callable[[], Session]) -> Callable[[Callable], Callable]:
    """A decorator: call the function with a new Session of *make_session* before its own arguments.

    Raises:
        TypeError: the function is a generator or a coroutine, whose first line would run when the Session is closed.
    """

    def decorate(job: Callable) -> Callable:
        if inspect.isgeneratorfunction(job) or inspect.iscoroutinefunction(job) or inspect.isasyncgenfunction(job):
            raise TypeError(f"{job.__qualname__} returns before its first line: open a Session in its body instead")

        @functools.wraps(job)
        def with_session(*args: Any, **kwargs: Any) -> Any:
            with make_session() as session, session.begin():
                return job(session, *args, **kwargs)

        return with_session

    return decorate


class WrongThread(InvalidRequestError):
    """A Session was used in a thread that did not make it."""


class OneThread(Session):
    """A Session that serves no thread but the one that made it; ``sessionmaker(engine, class_=OneThread)``.

    Raises:
        WrongThread: in another thread, at whatever sends SQL or ends a transaction.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        self._made_by = _thread()
        super().__init__(*args, **kwargs)

    def flush(self, *args: Any, **kwargs: Any) -> None:
        # Before it has begun: a flush that fails rolls the transaction back.
        self._check()
        super().flush(*args, **kwargs)

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        # Each statement asks for it, a lazy load's too.
        self._check()
        return super().get_bind(*args, **kwargs)

    def commit(self) -> None:
        self._check()
        super().commit()

    def rollback(self) -> None:
        self._check()
        super().rollback()

    def close(self) -> None:
        self._check()
        super().close()

    def _check(self) -> None:
        if self._made_by is not (here := _thread()):
            raise WrongThread(
                f"Session of thread {self._made_by.name!r} used in thread {here.name!r}; "
                "pass on primary keys, and load them in a Session made there"
            )


class _Thread:
    """A thread, told from all others: its id comes back when it is over, and its name need not be the only one."""

    def __init__(self) -> None:
        self.name = threading.current_thread().name


def _thread() -> _Thread:
    try:
        return _here.thread
    except AttributeError:
        _here.thread = _Thread()
        return _here.thread
