# SPDX-License-Identifier: 0BSD
# Recipe: rq_postfork, version 1 (Forks, Threads and Sessions, /docs/recipes/#rq-postfork)
"""Give every work horse of RQ an empty pool.

Problem: RQ's worker forks a new process, the work horse, for each job. Where the worker has imported the application
and asked the database something, every work horse inherits that connection, one after the other.

Use it when: the worker imports the application before it takes jobs, which saves each job the import: a worker script
of your own does, or the settings of ``rq worker -c settings``.
Not when: the work horse is the first to import it (plain ``rq worker``), or with SimpleWorker or SpawnWorker, which do
not fork; nothing happens then. Nor for a Session or Connection that the worker holds while it forks: close it before. A
work horse that collects it sends its ROLLBACK over the worker's socket, whatever was done to the pool.

RQ has no hook of its own in the work horse but a subclass of its worker. Python's runs in every process that is forked
with ``os.fork()``: in work horses, in the workers of RQ's WorkerPool, and in its scheduler. Call :func:`install` in the
module that makes the engine. For an async engine either it or its ``sync_engine`` will do.

>>> import os
>>> from sqlalchemy import QueuePool, create_engine
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> install(engine)
>>> engine.connect().close()
>>> work_horse = os.fork()
>>> if work_horse == 0:
...     os._exit(engine.pool.checkedin())
>>> os.waitstatus_to_exitcode(os.waitpid(work_horse, 0)[1])
0
>>> engine.pool.checkedin()
1

Tested with SQLAlchemy 2.0 and 2.1 and RQ 3.0. Worker scripts are described in
https://python-rq.org/docs/workers/#performance-notes
"""

import ctypes
import os

from sqlalchemy import Engine


def install(*engines: Engine) -> None:
    """Arrange that each of *engines* starts with an empty pool in every work horse."""
    os.register_at_fork(after_in_child=lambda: start_empty(*engines))


def start_empty(*engines: Engine) -> None:
    """Call it in a forked child: give each of *engines* a new pool and leave the inherited connections alone."""
    for engine in engines:
        engine = getattr(engine, "sync_engine", engine)
        # One reference too many, for ever: mysqlclient, mysql-connector, MariaDB Connector and asyncpg would otherwise
        # end the worker's connection when the inherited pool is dropped, or the work horse exits.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
        engine.dispose(close=False)
