# SPDX-License-Identifier: 0BSD
# Recipe: crossing_guard, version 1 (Forks, Threads and Sessions, /docs/recipes/#crossing-guard)
"""Log one error for each database connection that crosses a fork: who opened it and where, who uses it and where.

Problem: a process that forks leaves its connections to the child, in the pool, in a held Connection, in a Session. Most
of what comes of it looks like something else, or like nothing: the ROLLBACK that a child's garbage collector sends over
its parent's socket raises no error in either.

Use it when: you want to know whether that is it, or to be told if it ever comes back. With ``strict``, also when
nothing may go wrong meanwhile: the child starts with an empty pool, and to a Session or Connection that its parent held
at the fork the connection is, in the child, lost: using it raises PendingRollbackError, ending it sends nothing.
Not when: you look for what speaks past SQLAlchemy; a driver's own cursor is not seen, nor a driver's destructor.

Call :func:`watch` right after ``create_engine``, for an async engine as well. The logger is called "crossing_guard".

>>> import os
>>> from sqlalchemy import QueuePool, create_engine, text
>>> engine = watch(create_engine("sqlite://", poolclass=QueuePool))
>>> said = []
>>> log.addFilter(lambda record: said.append(record.getMessage()))
>>> engine.connect().close()
>>> child = os.fork()
>>> if child == 0:
...     engine.connect().close()
...     engine.connect().close()
...     line, = said
...     os._exit(not line.startswith(f"process {os.getpid()} uses a connection that process {os.getppid()} opened"))
>>> os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
0
>>> said
[]

Where Python's at-fork handlers do not run (uWSGI by default), ``strict`` has limits: a pre-ping comes before the guard,
and so does what the garbage collector sends. Tested with SQLAlchemy 2.0 and 2.1 on CPython 3.11 and newer. It rests on
events: https://docs.sqlalchemy.org/en/21/core/events.html
"""

import ctypes
import logging
import os
import sys
import traceback
import weakref

import sqlalchemy
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DisconnectionError, InvalidRequestError

log = logging.getLogger("crossing_guard")
_KEY = "crossing_guard"
_LIBRARY = os.path.dirname(sqlalchemy.__file__) + os.sep


class CrossedFork(InvalidRequestError):
    """With ``strict``: a connection that another process opened was to be used here. Nothing has been sent."""


class _Opening:
    """Where a connection was opened, who holds it, and which process has been told of already."""

    def __init__(self):
        self.pid, self.stack = os.getpid(), _stack()
        self.holder, self.told = (lambda: None), None

    def tell(self, how: str) -> str:
        """Tell of a crossing, once in each process; the answer is empty if there is none."""
        if self.pid == os.getpid():
            return ""
        line = f"process {os.getpid()} uses a connection that process {self.pid} opened ({how})"
        if self.told != os.getpid():
            self.told = os.getpid()
            log.error("%s\nUsed at:\n%sOpened at:\n%s", line, _format(_stack()), _format(self.stack))
        return line


def watch(engine: Engine, *, strict: bool = False) -> Engine:
    """Watch *engine* and return it. If *strict*, a forked child is also kept from using what it inherited."""
    watched = getattr(engine, "sync_engine", engine)
    records = weakref.WeakSet()

    def disown_all() -> None:
        for record in list(records):
            opening = record.info.get(_KEY)
            if opening and opening.pid != os.getpid() and record.dbapi_connection is not None:
                # Never freed: with mysqlclient and mysql-connector the last reference ends the connection.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(record.dbapi_connection))
                record.dbapi_connection = None
                holder = opening.holder()
                if _is_open(holder):
                    holder.invalidate()

    def after_in_child() -> None:
        disown_all()
        watched.dispose(close=False)

    if strict:
        os.register_at_fork(after_in_child=after_in_child)

    @event.listens_for(watched, "connect")
    def connect(dbapi_connection, record):
        record.info[_KEY] = _Opening()

    @event.listens_for(watched, "checkout")
    def checkout(dbapi_connection, record, proxy):
        records.add(record)
        opening = record.info.get(_KEY) or record.info.setdefault(_KEY, _Opening())
        opening.holder = weakref.ref(proxy)
        if (line := opening.tell("checkout")) and strict:
            opening.holder = lambda: None
            disown_all()
            proxy.dbapi_connection = None
            raise DisconnectionError(line)

    @event.listens_for(watched, "engine_connect")
    def engine_connect(connection):
        connection.info[_KEY].holder = weakref.ref(connection)

    @event.listens_for(watched, "reset")
    def reset(dbapi_connection, record, reset_state):
        if record and _KEY in record.info:
            record.info[_KEY].tell("rollback on return to the pool, perhaps by the garbage collector")

    @event.listens_for(watched, "close")
    def close(dbapi_connection, record):
        if _KEY in record.info:
            record.info[_KEY].tell("close")

    @event.listens_for(watched, "before_cursor_execute")
    def execute(connection, cursor, statement, parameters, context, executemany):
        refuse(connection, "statement")

    def refuse(connection, how, *, error=True) -> None:
        opening = _is_open(connection) and connection.info.get(_KEY)
        if opening and (line := opening.tell(how)) and strict:
            disown_all()
            if error:
                raise CrossedFork(line)

    event.listen(watched, "commit", lambda connection: refuse(connection, "commit"))
    # Not refused: of a connection that is disowned SQLAlchemy rolls back nothing, as it should be.
    event.listen(watched, "rollback", lambda connection: refuse(connection, "rollback", error=False))
    return engine


def _is_open(holder) -> bool:
    if isinstance(holder, Connection):
        return not (holder.closed or holder.invalidated)
    return holder is not None and holder.is_valid


def _stack() -> traceback.StackSummary:
    # An async engine works in a greenlet, whose caller waits in the parent.
    greenlet = sys.modules.get("greenlet")
    parent = greenlet and greenlet.getcurrent().parent
    outer = list(traceback.walk_stack(parent.gr_frame)) if parent and parent.gr_frame else []
    # Lines of source are read only when the stack is shown.
    return traceback.StackSummary.extract([*traceback.walk_stack(None), *outer], lookup_lines=False)


def _format(stack: traceback.StackSummary) -> str:
    shown = [frame for frame in stack if not frame.filename.startswith((_LIBRARY, __file__))]
    return "".join(traceback.StackSummary.from_list(reversed(shown)).format())
