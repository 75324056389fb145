# SPDX-License-Identifier: 0BSD
# Recipe: celery_postfork, version 1 (Forks, Threads and Sessions, /docs/recipes/#celery-postfork)
"""Give every process of Celery's prefork pool an empty connection pool, replaced processes included.

Problem: the worker's main process imports the application and then forks the processes that run tasks. A query that ran
during the import, or in a signal handler of the main process, leaves its connection in the pool, and all of them speak
over that one socket.

Use it when: Celery runs with its prefork pool, the default.
Not when: it runs with threads, gevent, eventlet or solo, which do not fork; nothing happens then. Nor for a Session or
Connection that the main process holds while it forks: close it before. A child that collects it sends its ROLLBACK over
the main process's socket, whatever was done to the pool.

Call :func:`install` in the module that holds the Celery application. For an async engine either it or its
``sync_engine`` will do.

>>> import os
>>> from celery.signals import worker_process_init
>>> from sqlalchemy import QueuePool, create_engine
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> install(engine)
>>> engine.connect().close()
>>> child = os.fork()
>>> if child == 0:
...     _ = worker_process_init.send(sender=None)  # Celery sends it in each new process
...     os._exit(engine.pool.checkedin())
>>> os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
0
>>> engine.pool.checkedin()
1

Tested with SQLAlchemy 2.0 and 2.1 and Celery 5.7. The signal is described in
https://docs.celeryq.dev/en/stable/userguide/signals.html#worker-process-init
"""

import ctypes
import os

from celery.signals import worker_process_init
from sqlalchemy import Engine


def install(*engines: Engine) -> None:
    """Arrange that each of *engines* starts with an empty pool in every process of the prefork pool."""
    main_process = os.getpid()

    @worker_process_init.connect(weak=False)
    def leave_the_pools_to_the_main_process(**_) -> None:
        # The solo pool sends the signal, too, in the one process that there is.
        if os.getpid() != main_process:
            start_empty(*engines)


def start_empty(*engines: Engine) -> None:
    """Call it in a forked child: give each of *engines* a new pool and leave the inherited connections alone."""
    for engine in engines:
        engine = getattr(engine, "sync_engine", engine)
        # One reference too many, for ever: mysqlclient, mysql-connector, MariaDB Connector and asyncpg would otherwise
        # end the main process's connection when the inherited pool is dropped, or the child exits.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
        engine.dispose(close=False)
