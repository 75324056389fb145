# SPDX-License-Identifier: 0BSD
# Recipe: gunicorn_postfork, version 1 (Forks, Threads and Sessions, /docs/recipes/#gunicorn-postfork)
"""Give every worker that gunicorn forks an empty pool, respawned workers included.

Problem: with ``--preload`` gunicorn loads the application once, in the arbiter, and forks it. A query that ran during
the import leaves its connection in the pool, and all workers speak over that one socket.

Use it when: gunicorn runs with ``--preload``.
Not when: it does not; then every worker imports for itself, and the hook finds nothing to do. Nor for a Session or
Connection that the import holds: close it at the end of the import. A worker that collects it sends its ROLLBACK over
the arbiter's socket, whatever was done to the pool.

In ``gunicorn.conf.py``: ``from gunicorn_postfork import post_fork``. The file has to lie where gunicorn is started, as
``--chdir`` and ``--pythonpath`` count only later. The application calls :func:`install`, imported from the same module
under the same name. For an async engine either it or its ``sync_engine`` will do.

>>> from sqlalchemy import QueuePool, create_engine
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> install(engine)
>>> engine.connect().close()
>>> engine.pool.checkedin()
1
>>> post_fork(server=None, worker=None)  # gunicorn calls it in each new worker
>>> engine.pool.checkedin()
0

Tested with SQLAlchemy 2.0 and 2.1 under gunicorn 27. The hook is described in
https://docs.gunicorn.org/en/stable/settings.html#post-fork
"""

import ctypes

from sqlalchemy import Engine

_engines: list[Engine] = []


def install(*engines: Engine) -> None:
    """Arrange that each of *engines* starts with an empty pool in every worker that gunicorn forks from here on."""
    _engines.extend(engines)


def post_fork(server, worker) -> None:
    """The hook itself. One that you have already calls this one."""
    start_empty(*_engines)


def start_empty(*engines: Engine) -> None:
    """Call it in a forked child: give each of *engines* a new pool and leave the inherited connections alone."""
    for engine in engines:
        engine = getattr(engine, "sync_engine", engine)
        # One reference too many, for ever: mysqlclient, mysql-connector, MariaDB Connector and asyncpg would otherwise
        # end the arbiter's connection when the inherited pool is dropped, or the worker exits.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
        engine.dispose(close=False)
