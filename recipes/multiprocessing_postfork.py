# SPDX-License-Identifier: 0BSD
# Recipe: multiprocessing_postfork, version 1 (Forks, Threads and Sessions, /docs/recipes/#multiprocessing-postfork)
"""Give every process that multiprocessing forks an empty pool: Process, Pool, ProcessPoolExecutor.

Problem: with the start method ``fork`` a child inherits the engine with the connections in its pool, and speaks over
its parent's socket.

Use it when: ``multiprocessing`` or ``concurrent.futures`` starts processes, with ``fork`` (:func:`install`), or with
``spawn`` or ``forkserver`` (:func:`open_engine`), where nothing is inherited and an engine cannot be passed.
Not when: something else forks as well: take the recipe fork_safe_engine. Nor for a Session or Connection that the
parent holds while it forks: close it before. A child that collects it sends its ROLLBACK over the parent's socket,
whatever was done to the pool.

For an async engine either it or its ``sync_engine`` will do.

>>> import multiprocessing
>>> from sqlalchemy import QueuePool, create_engine
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> engine.connect().close()
>>> install(engine)
>>> def work():
...     raise SystemExit(engine.pool.checkedin())
>>> child = multiprocessing.get_context("fork").Process(target=work)
>>> child.start(); child.join()
>>> child.exitcode
0
>>> engine.pool.checkedin()
1

Instead of :func:`install`, a pool's own hook: ``initializer=start_empty, initargs=(engine,)``; ``initargs`` are not
pickled under ``fork``. And for the other start methods: ``initializer=open_engine, initargs=(url,)``.

>>> open_engine("sqlite://")  # tasks find it as multiprocessing_postfork.engine
Engine(sqlite://)

Tested with SQLAlchemy 2.0 and 2.1 on CPython 3.11 and newer. Start methods are described in
https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods
"""

import ctypes
from multiprocessing import util

from sqlalchemy import URL, Engine, create_engine

engine: Engine | None = None


def install(*engines: Engine) -> None:
    """Arrange that each of *engines* starts with an empty pool in every process that multiprocessing forks."""
    for engine in engines:
        util.register_after_fork(engine, start_empty)


def start_empty(*engines: Engine) -> None:
    """Call it in a forked child: give each of *engines* a new pool and leave the inherited connections alone."""
    for engine in engines:
        engine = getattr(engine, "sync_engine", engine)
        # One reference too many, for ever: mysqlclient, mysql-connector, MariaDB Connector and asyncpg would otherwise
        # end the parent's connection when the inherited pool is dropped, or the child exits.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
        engine.dispose(close=False)


def open_engine(url: URL | str, **options) -> Engine:
    """Call it in a spawned child: make the child's own engine and keep it as ``engine`` in this module."""
    global engine
    engine = create_engine(url, **options)
    return engine
