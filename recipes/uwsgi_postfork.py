# SPDX-License-Identifier: 0BSD
# Recipe: uwsgi_postfork, version 1 (Forks, Threads and Sessions, /docs/recipes/#uwsgi-postfork)
"""Give every process that uWSGI forks an empty pool: workers, respawned workers, mules and the spooler.

Problem: uWSGI loads the application once, in the master, and forks it. A query that ran during the import leaves its
connection in the pool, and all workers speak over that one socket.

Use it when: the application is loaded before the fork (uWSGI's default), for the memory that this saves.
Not when: ``lazy-apps`` is on, where no worker inherits anything; and not under another server, where there is no
``uwsgidecorators`` to import: outside uWSGI :func:`install` does nothing.

Call :func:`install` once, at the end of the module that uWSGI loads:

>>> from sqlalchemy import create_engine
>>> install(create_engine("sqlite://"))  # not under uWSGI: nothing to do
False

Tested with SQLAlchemy 2.0 and 2.1 under uWSGI 2.0.31, with psycopg2, psycopg, pg8000, PyMySQL, mysqlclient and
mysql-connector. ``@postfork`` is described in
https://uwsgi-docs.readthedocs.io/en/latest/PythonDecorators.html#uwsgidecorators.postfork
"""

import ctypes

from sqlalchemy import Engine


def install(*engines: Engine) -> bool:
    """Arrange that each of *engines* starts with an empty pool after every fork; tell whether uWSGI is there."""
    try:
        from uwsgidecorators import postfork
    except ImportError:
        return False

    @postfork
    def leave_the_pools_to_the_master() -> None:
        for engine in engines:
            # One reference too many, for ever: mysqlclient and mysql-connector would otherwise say goodbye to the
            # server, on the master's socket, when the inherited pool is dropped or the worker exits.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
            engine.dispose(close=False)

    return True
