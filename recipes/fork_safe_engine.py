# SPDX-License-Identifier: 0BSD
# Recipe: fork_safe_engine, version 2 (Forks, Threads and Sessions, /docs/recipes/#fork-safe-engine)
"""Make an engine safe to inherit: a forked child opens connections of its own and leaves its parent's alone.

Problem: a connection that is in the pool when a process forks is one socket with two owners. The child must not use
it, must not close it, and with some drivers must not even forget it: mysqlclient, mysql-connector, MariaDB Connector
and asyncpg end the parent's connection when the last reference goes. ``Engine.dispose(close=False)`` alone lets it go.

Use it when: processes fork with the engine in place, whoever forks them (uWSGI, gunicorn ``--preload``,
multiprocessing, Celery), and the parent may go on using its connections.
Not when: the child is to go on with a Session or Connection that was checked out before the fork. Nothing repairs that.
Nor does it help against locks: connect once and call ``configure_mappers()`` before the first thread starts, or a child
that is forked while a thread does either waits for ever, or has a dialect that was never set up.

How: where the forker runs Python's at-fork handlers, the child gets an empty pool at once. Where it does not (uWSGI by
default), the first checkout in the child notices. Either way the inherited connections are given one reference that is
never dropped, so that no destructor runs, not even at interpreter exit.

Call :func:`protect` right after ``create_engine``, for an async engine on its ``sync_engine``:

>>> import os
>>> from sqlalchemy import QueuePool, create_engine, text
>>> engine = protect(create_engine("sqlite://", poolclass=QueuePool))
>>> with engine.connect() as connection:
...     connection.scalar(text("select 1"))
1
>>> engine.pool.checkedin()
1
>>> child = os.fork()
>>> if child == 0:
...     os._exit(engine.pool.checkedin())  # the child's pool is empty
>>> os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
0
>>> engine.pool.checkedin()
1

Tested with SQLAlchemy 2.0 and 2.1 on CPython 3.11 and newer, with psycopg2, psycopg, pg8000, asyncpg, PyMySQL,
mysqlclient, mysql-connector, MariaDB Connector and asyncmy. The checkout guard follows the idea of SQLAlchemy's own,
which lets go of the connection:
https://docs.sqlalchemy.org/en/21/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
"""

import ctypes
import os
import weakref

from sqlalchemy import Engine, event
from sqlalchemy.exc import DisconnectionError


def protect(engine: Engine) -> Engine:
    """Protect *engine*, and return it."""
    protected_in = os.getpid()
    records = weakref.WeakSet()

    def is_inherited(record) -> bool:
        return record.info.get("pid", protected_in) != os.getpid()

    def abandon() -> None:
        for record in list(records):
            if is_inherited(record) and record.dbapi_connection is not None:
                _never_free(record.dbapi_connection)
                # A record without a connection opens one of its own when it is next checked out.
                record.dbapi_connection = None

    def after_in_child() -> None:
        abandon()
        # The new pool has locks and counters that no thread of the parent holds.
        engine.dispose(close=False)

    os.register_at_fork(after_in_child=after_in_child)

    @event.listens_for(engine, "connect")
    def remember(dbapi_connection, record):
        record.info["pid"] = os.getpid()
        records.add(record)

    @event.listens_for(engine, "checkout")
    def refuse(dbapi_connection, record, proxy):
        records.add(record)
        if is_inherited(record):
            abandon()
            proxy.dbapi_connection = None
            raise DisconnectionError("this connection belongs to the process that forked this one")

    return engine


def _never_free(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
