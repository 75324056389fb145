# SPDX-License-Identifier: 0BSD
# Recipe: scoped_registry, version 1 (Forks, Threads and Sessions, /docs/recipes/#scoped-registry)
"""A ``scoped_session`` whose scope is a block that you open, not the thread that the code happens to run in.

Problem: a plain ``scoped_session`` makes a Session wherever it is asked for one, and keeps it until somebody in the
same thread calls ``remove()``. Threads of a pool never end, so the next job finds the last one's Session; what is
stored from a call, ``self.session = registry()``, is one thread's Session for all threads; and within a second unit of
work in the same thread ``remove()`` ends the first one's.

Use it when: code reaches for a global ``Session.execute(...)`` or ``registry()`` and you want to know that it is within
a unit of work, and which.
Not when: you can pass a Session as an argument, which is clearer: see thread_session. Nor under asyncio, where tasks
share the scope that they were started in, nor across FastAPI's threads; asgi_session and fastapi_session are for those.

>>> from sqlalchemy import QueuePool, create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> db = SessionRegistry(sessionmaker(engine))
>>> with db.scope():
...     print(db.scalar(text("select 'in a scope'")), engine.pool.checkedout())
in a scope 1
>>> engine.pool.checkedout()
0
>>> @db.scope()  # a function of which each call is a unit of work, to be handed to an executor for instance
... def job(number):
...     return db.scalar(text("select :number"), {"number": number})
>>> job(2)
2
>>> db.execute(text("select 1"))
Traceback (most recent call last):
scoped_registry.OutsideScope: no scope is open here; wrap the unit of work in `with registry.scope():`
>>> stored = db()  # asks for the scope at each use, not now
>>> with db.scope():
...     stored.scalar(text("select 3"))
3

A scope has one Session, made at its first use, and closes it at its end, however that comes. It does not commit: call
``db.commit()``, or use ``with db.begin():``. A scope within a scope is another unit of work with a Session of its own,
and after it the outer one goes on. A new thread is in no scope. A thread that runs in a copy of the context that a
scope was opened in is told so, and may open one of its own. ``remove()`` gives the scope a new Session. A generator
should not yield within a scope that it opened: until it goes on, the scope would be its caller's.
Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL, MariaDB and SQLite. What a scopefunc is, is told in
https://docs.sqlalchemy.org/en/21/orm/contextual.html#using-custom-created-scopes
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, scoped_session


class OutsideScope(InvalidRequestError):
    """The registry was asked for a Session where no scope is open, or one that is another thread's."""


class SessionRegistry(scoped_session):
    """All that a ``scoped_session`` can do, within :meth:`scope`. Make one for the application.

    Args:
        make_session: makes a Session, a sessionmaker for instance.
    """

    def __init__(self, make_session: Callable[[], Session]):
        super().__init__(make_session)
        self.registry = _Registry(make_session)

    def __call__(self) -> "SessionRegistry":
        """Itself, so that what is stored is nobody's Session."""
        return self

    @contextmanager
    def scope(self) -> Iterator["SessionRegistry"]:
        """A unit of work; also a decorator of functions."""
        scope, outer = _Scope(), self.registry.open.get()
        self.registry.open.set(scope)
        try:
            yield self
        finally:
            self.registry.open.set(outer)
            scope.over = True
            if scope.session is not None:
                scope.session.close()


class _Scope:
    """A unit of work, the thread that it was opened in, and its Session, once that was asked for."""

    def __init__(self) -> None:
        self.thread, self.session, self.over = threading.current_thread(), None, False


class _Registry:
    """Where a ``scoped_session`` keeps its Sessions: here each is kept by its scope, and goes with it."""

    def __init__(self, make_session: Callable[[], Session]):
        self.make_session = make_session
        self.open: ContextVar[_Scope | None] = ContextVar("scoped_registry", default=None)

    def __call__(self) -> Session:
        scope = self.scope()
        if scope.session is None:
            scope.session = self.make_session()
        return scope.session

    def has(self) -> bool:
        return self.scope().session is not None

    def set(self, session: Session) -> None:
        self.scope().session = session

    def clear(self) -> None:
        self.scope().session = None

    def scope(self) -> _Scope:
        """The open one.

        Raises:
            OutsideScope: there is none, or it is not this thread's.
        """
        scope, here = self.open.get(), threading.current_thread()
        if scope is None:
            raise OutsideScope("no scope is open here; wrap the unit of work in `with registry.scope():`")
        if scope.over:
            raise OutsideScope("the scope of this context is over; open another with `with registry.scope():`")
        if scope.thread is not here:
            raise OutsideScope(
                f"the scope of this context was opened in thread {scope.thread.name!r}, and this is {here.name!r}; "
                "open another with `with registry.scope():`"
            )
        return scope
