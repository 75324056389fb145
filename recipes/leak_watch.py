# SPDX-License-Identifier: 0BSD
# Recipe: leak_watch, version 1 (Forks, Threads and Sessions, /docs/recipes/#leak-watch)
"""Who holds a connection of the pool too long: thread, task, file and line.

Problem: "QueuePool limit of size 5 overflow 10 reached, connection timed out" is raised where a connection was wanted,
and says nothing of those who have one. They are elsewhere: a Session that nobody closed, a transaction that waits for
another service.

Use it when: that message comes and you do not know who holds the connections; or all the time, as an alarm.
Not when: connections are meant to be held, as by a listener or a lock; give those an engine of their own. With NullPool
and StaticPool it works as well, and with an AsyncEngine.

Each checkout notes the thread, the task, the time, and up to five frames of the code that is not SQLAlchemy's: numbers
and names, no objects, so that it keeps nothing alive. A thread of the process logs each checkout once ("leak_watch",
WARNING) when its time is over. It starts with the first checkout in a process, so a server may fork before; what a
parent holds is not told in its child. ``print(watch.report())`` where the pool's TimeoutError is caught tells the
whole of it.

>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import Session
>>> from sqlalchemy.pool import QueuePool
>>> engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.1)
>>> watch = LeakWatch(engine, longer_than=60)
>>> def forgets():
...     session = Session(engine)
...     session.scalar(text("select 1"))
...     return session
>>> session = forgets()
>>> try:
...     engine.connect()
... except Exception as problem:
...     print(type(problem).__name__)
TimeoutError
>>> holder, = watch.held()
>>> holder.thread, holder.stack[0].split(" in ")[1]
('MainThread', 'forgets')
>>> session.close()
>>> watch.held()
[]
>>> watch.stop()
>>> engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1, threads and asyncio. The events are described in
https://docs.sqlalchemy.org/en/20/core/events.html#sqlalchemy.events.PoolEvents
"""

import asyncio
import logging
import os
import sys
import threading
import time
import weakref
from dataclasses import dataclass

from sqlalchemy import event

log = logging.getLogger("leak_watch")


@dataclass(frozen=True)
class Held:
    """A connection that is checked out: by which ``thread`` and ``task``, ``since`` when, by ``time.monotonic()``.

    ``stack`` is where it was taken, innermost first, each as "file:line in function".
    """

    thread: str
    task: str
    since: float
    stack: tuple

    def __str__(self) -> str:
        who = f"thread {self.thread}" + (f", task {self.task}" if self.task else "")
        return f"held for {time.monotonic() - self.since:.1f} s by {who}, taken at {', from '.join(self.stack)}"


class LeakWatch:
    """Watch the pool of *engine*, an Engine or AsyncEngine, and log who holds a connection *longer_than* seconds.

    Raises:
        ValueError: *longer_than* is not above 0.
    """

    def __init__(self, engine, *, longer_than: float = 30.0):
        if not longer_than > 0:
            raise ValueError("longer_than has to be above 0")
        self.longer_than = longer_than
        self._engine = getattr(engine, "sync_engine", engine)
        # By the pool's record: what was noted at its checkout. Single operations of a dict need no lock.
        self._noted: dict = {}
        self._pid, self._stopped, self._on = 0, threading.Event(), True
        for name, listener in self._listeners():
            event.listen(self._engine, name, listener)

    def held(self, longer_than: float = 0.0) -> list:
        """Who holds a connection longer than so many seconds, the longest first."""
        found = []
        for proxy, thread, task, since, frames in list(self._noted.values()):
            if time.monotonic() - since >= longer_than and proxy() is not None and self._pid == os.getpid():
                stack = tuple(f"{code.co_filename}:{line} in {code.co_name}" for code, line in frames)
                found.append(Held(thread, task, since, stack))
        return sorted(found, key=lambda held: held.since)

    def report(self) -> str:
        """The pool's status, and a line for each holder."""
        return "\n".join([self._engine.pool.status(), *map(str, self.held())])

    def stop(self) -> None:
        """End it; what was noted is dropped."""
        self._on = False
        self._stopped.set()
        for name, listener in self._listeners():
            if event.contains(self._engine, name, listener):
                event.remove(self._engine, name, listener)
        self._noted.clear()

    def _listeners(self):
        return [("checkout", self._checkout), *((name, self._gone) for name in ("checkin", "detach", "close"))]

    def _checkout(self, dbapi_connection, record, proxy) -> None:
        if not self._on:
            return
        if self._pid != os.getpid():
            self._begin()
        thread = threading.current_thread().name
        # What is told later is told of the proxy: one that was collected holds nothing.
        self._noted[record] = (weakref.ref(proxy), thread, _task(), time.monotonic(), _frames())

    def _gone(self, dbapi_connection, record) -> None:
        self._noted.pop(record, None)

    def _begin(self) -> None:
        # The first checkout of this process. What is noted by then is its parent's, and a lock may have been held.
        self._noted.clear()
        self._pid, self._stopped = os.getpid(), threading.Event()
        watching = (weakref.ref(self), self._stopped, self.longer_than)
        threading.Thread(target=_watch, args=watching, name="leak_watch", daemon=True).start()


def _watch(watch, stopped, longer_than: float) -> None:
    told: list = []
    while not stopped.wait(min(longer_than / 2, 5.0)):
        if (it := watch()) is None:
            return
        late = it.held(longer_than)
        del it
        for held in late:
            if held not in told:
                log.warning("a connection of the pool is %s", held)
        told = late


def _task() -> str:
    try:
        return asyncio.current_task().get_name()
    except (RuntimeError, AttributeError):
        return ""


def _frames(count: int = 5) -> list:
    """Code and line of the innermost frames that are not SQLAlchemy's: cheap, and no frame is kept."""
    frame, found, greenlet = sys._getframe(2), [], sys.modules.get("greenlet")
    current = greenlet and greenlet.getcurrent()
    while len(found) < count and (frame or (current and current.parent)):
        if not frame:
            # Within an AsyncEngine the stack ends at a greenlet; what waits for it stands in its parent.
            current = current.parent
            frame = current.gr_frame
            continue
        if not frame.f_globals.get("__name__", "").startswith(("sqlalchemy.", "asyncio.", "threading", "concurrent.")):
            found.append((frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return found
