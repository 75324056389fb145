"""The logs there are: one row each. A new log is one row, and a program if none of those here makes its mistake."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import time

from lab import servers
from lab.brokers import redis
from lab.drivers import driver
from lab.logs import get, program, recording, run, settings_for, until
from lab.process import LabError, folder, kept, wait_until
from lab.uvicorn import uvicorn

SHOP = "lab.scenes.log_shop"


def web(
    server, *laps, using, tls=False, server_options=None, workers=2, ends=signal.SIGINT, app=SHOP, stays=0, **settings
):
    """A recording of the shop behind *server*, asked for every path of each of *laps* at once.

    After them it *stays* for so many seconds.
    """

    def record():
        told = prepared(using, tls, **settings)
        with server(app, workers=workers, settings=told, options=server_options or {}) as running:
            for paths in laps:
                get(running.port, *paths)
            time.sleep(stays)
            os.kill(running.master, ends)
            wait_until(lambda: not running.process.running, "the end", 60)
            return running.process.text()

    return record


def prepared(using, tls=False, **settings):
    """Settings, with the tables made."""
    told = settings_for(using, tls, **settings)
    maker = "async" if driver(using).loop else "errors"
    run(maker, "connect", settings={"engine": told["engine"]})
    return told


@contextlib.contextmanager
def celery(told, *options):
    """A Celery worker with the shop's tasks, and a function that sends one and waits for its end."""
    from celery import Celery

    with folder() as home, redis(home) as socket:
        told = {**told, "broker": f"redis+socket://{socket}"}
        command = [servers.BIN / "celery", "-A", "lab.scenes.log_celery", "worker", "--loglevel", "INFO", *options]
        with kept(command, home, name="Celery", env={"LAB_APP": json.dumps(told)}) as process:
            process.wait_for(lambda: " ready." in process.text(), "start")
            done = itertools.count(1)

            def ends():
                return len(re.findall(r"\] (?:succeeded in|raised unexpected)|WorkerLostError", process.text()))

            def send(name, *arguments, wait=True):
                with Celery("producer", broker=told["broker"], set_as_current=False) as producer:
                    producer.send_task(f"shop.{name}", args=arguments)
                due = next(done)
                if wait:
                    with contextlib.suppress(LabError):
                        wait_until(lambda: ends() >= due, name, 15)

            yield process, send


def worker(*tasks, using, tls=False, options=("--concurrency", "2"), together=0, **settings):
    """A recording of a Celery worker that is sent *tasks* (name and arguments), one after the other or, for so many
    seconds, *together*."""

    def record():
        told = prepared(using, tls, **settings)
        with celery(told, *options) as (process, send):
            for name, *numbers in tasks:
                send(name, *numbers, wait=not together)
            if together:
                time.sleep(together)
            os.kill(process.pid, signal.SIGTERM)
            with contextlib.suppress(LabError):
                wait_until(lambda: not process.running, "the end", 15)
            return process.text()

    return record


def api(*laps, using, **settings):
    """A recording of the shop's API under uvicorn, asked for every path of each of *laps* at once."""

    def record():
        told = prepared(using, **settings)
        with uvicorn("lab.scenes.log_api", settings=told) as running:
            for paths in laps:
                get(running.port, *paths)
            os.kill(running.master, signal.SIGTERM)
            wait_until(lambda: not running.process.running, "the end", 60)
            return running.process.text()

    return record


uwsgi, gunicorn = servers.uwsgi, servers.gunicorn
TURNS = [["/turn?lap=1", "/turn?lap=1"], ["/turn?lap=2", "/turn?lap=2"]]
SLOW_PG = {
    "select": "select pg_sleep(2)::text, 'a report'",
    "update": "update item set stock = stock + 1 where id = 3 and pg_sleep(2) is not null",
}
ONLY_S23 = r"(?s)\A(?!.*(?:ommands? out of sync|PGRES_TUPLES_OK)).*does not return rows"
LIMIT_PG = "set idle_in_transaction_session_timeout = '1s'"
SLOW_MARIA = {
    "select": "select sleep(2), 'a report'",
    "update": "update item set stock = stock + 1 where id = 3 and sleep(2) = 0",
}
ROWS = (
    ("s01-uwsgi-psycopg2-tls", "uWSGI, Flask, psycopg2 over TLS, PostgreSQL: the master reads while it imports",
     web(uwsgi, *TURNS, using="psycopg2", tls=True, server_options={"log-5xx": True}, reads_at_import=True)),
    ("s01-gunicorn-psycopg2-tls", "gunicorn --preload, Flask, psycopg2 over TLS, PostgreSQL: reads at import",
     web(gunicorn, *TURNS, using="psycopg2", tls=True, server_options={"preload": True}, ends=signal.SIGTERM,
         reads_at_import=True)),
    ("s01-multiprocessing-psycopg-tls", "multiprocessing, psycopg over TLS, PostgreSQL: child reads, then parent",
     program("fork", "child reads", using="psycopg", tls=True)),
    ("s01-multiprocessing-psycopg2-tls", "multiprocessing, psycopg2 over TLS, PostgreSQL: child reads, then parent",
     program("fork", "child reads", using="psycopg2", tls=True)),
    ("s01-multiprocessing-pymysql-tls", "multiprocessing, PyMySQL over TLS, MariaDB: child reads, then parent",
     program("fork", "child reads", using="PyMySQL", tls=True)),
    ("s01-multiprocessing-mysqlclient-tls", "multiprocessing, mysqlclient over TLS, MariaDB: child reads, then parent",
     program("fork", "child reads", using="mysqlclient", tls=True)),
    ("s02-one-log-psycopg2-tls", "multiprocessing, psycopg2 over TLS, PostgreSQL: the log of one process of three",
     program("fork", "others read", using="psycopg2", tls=True)),
    ("s85-thread-flask-sqlalchemy", "gunicorn, Flask-SQLAlchemy, psycopg2, PostgreSQL: a thread of a view's",
     web(gunicorn, ["/buy/1"], using="psycopg2", workers=1, app="lab.scenes.log_site", ends=signal.SIGTERM, stays=1)),
    ("s39-gunicorn-apscheduler", "gunicorn, APScheduler, psycopg2, PostgreSQL: a scheduler in each worker",
     web(gunicorn, ["/"], using="psycopg2", workers=2, app="lab.scenes.log_scheduler", ends=signal.SIGTERM, stays=4)),
    ("s03-multiprocessing-psycopg2-tls", "multiprocessing, psycopg2 over TLS, PostgreSQL: dispose() in the child",
     program("fork", "child disposes", using="psycopg2", tls=True)),
    ("s07-multiprocessing-psycopg2", "multiprocessing, psycopg2, PostgreSQL: dispose() in the child",
     program("fork", "child disposes", using="psycopg2")),
    ("s07-multiprocessing-psycopg", "multiprocessing, psycopg, PostgreSQL: dispose() in the child",
     program("fork", "child disposes", using="psycopg")),
    ("s19-multiprocessing-pymysql", "multiprocessing, PyMySQL, MariaDB: dispose() in the child",
     program("fork", "child disposes", using="PyMySQL")),
    ("s19-multiprocessing-mysqlclient", "multiprocessing, mysqlclient, MariaDB: dispose() in the child",
     program("fork", "child disposes", using="mysqlclient")),
    ("s19-destructor-mysqlclient", "multiprocessing, mysqlclient, MariaDB: dispose(close=False) in the child, and its "
     "garbage collector", program("fork", "child forgets", using="mysqlclient")),
    ("s19-child-disposes-pymysql-tls", "multiprocessing, PyMySQL over TLS, MariaDB: dispose() in the child",
     program("fork", "child disposes", using="PyMySQL", tls=True)),
    ("s19-child-disposes-mysql-connector-tls", "multiprocessing, mysql-connector over TLS, MariaDB: dispose() in the "
     "child", program("fork", "child disposes", using="mysql-connector", tls=True)),
    ("s19-child-disposes-mysql-connector", "multiprocessing, mysql-connector, MariaDB: dispose() in the child",
     program("fork", "child disposes", using="mysql-connector")),
    ("s07-driver-alone-psycopg2", "multiprocessing, psycopg2 without SQLAlchemy, PostgreSQL: close() in the child",
     program("fork", "driver alone", using="psycopg2")),
    ("s07-multiprocessing-pg8000", "multiprocessing, pg8000, PostgreSQL: dispose() in the child",
     program("fork", "child disposes", using="pg8000")),
    ("s01-multiprocessing-pg8000-tls", "multiprocessing, pg8000 over TLS, PostgreSQL: child reads, then parent",
     program("fork", "child reads", using="pg8000", tls=True)),
    ("s19-child-reads-mysql-connector-tls", "multiprocessing, mysql-connector over TLS, MariaDB: child reads, then "
     "parent", program("fork", "child reads", using="mysql-connector", tls=True)),
    ("s04-multiprocessing-psycopg2", "multiprocessing, psycopg2, PostgreSQL: three children work at once",
     until("PGRES_TUPLES_OK", program("fork", "together", using="psycopg2", hangs=True))),
    ("s23-multiprocessing-pymysql", "multiprocessing, PyMySQL, MariaDB: three children work at once",
     until(ONLY_S23, program("fork", "together", using="PyMySQL", hangs=True))),
    ("s17-writer-pymysql", "multiprocessing, PyMySQL, MariaDB: a child reads while another writes",
     program("fork", "slow update", using="PyMySQL", slow=SLOW_MARIA)),
    ("s17-writer-mysqlclient", "multiprocessing, mysqlclient, MariaDB: a child reads while another writes",
     program("fork", "slow update", using="mysqlclient", slow=SLOW_MARIA)),
    ("s04-turns-psycopg2", "multiprocessing, psycopg2, PostgreSQL: a child reads the answer to another one's SELECT",
     program("fork", "slow select", using="psycopg2", slow=SLOW_PG)),
    ("s22-multiprocessing-pymysql", "multiprocessing, PyMySQL, MariaDB: a child reads while another waits",
     until("ould not locate column", program("fork", "slow select", using="PyMySQL", slow=SLOW_MARIA))),
    ("s22-multiprocessing-mysqlclient", "multiprocessing, mysqlclient, MariaDB: a child reads while another waits",
     until("ould not locate column", program("fork", "slow select", using="mysqlclient", slow=SLOW_MARIA))),
    ("s17-multiprocessing-mysqlclient", "multiprocessing, mysqlclient, MariaDB: three children work at once",
     until("Commands out of sync", program("fork", "together", using="mysqlclient", hangs=True))),
    ("s17-multiprocessing-pymysql", "multiprocessing, PyMySQL, MariaDB: three children work at once",
     until("Command Out of Sync", program("fork", "together", using="PyMySQL", hangs=True))),
    ("s41-threads-sqlite", "threading, sqlite: a session of another thread's",
     program("threads", "sqlite thread", using="sqlite", options={"connect_args": {"check_same_thread": True}})),
    ("s41-raw-sqlite", "threading, sqlite3", program("threads", "raw sqlite", using="sqlite")),
    ("s42-static-pool-sqlite", "threading, sqlite with StaticPool: one connection for three threads",
     until("cannot commit|bad parameter|API misuse", program("threads", "static pool", using="sqlite"))),
    ("s43-threads-sqlite", "threading, sqlite: a long transaction", program("threads", "locked", using="sqlite")),
    ("s45-threads-psycopg2", "threading, psycopg2, PostgreSQL: one Session, a commit in one thread and a SELECT in "
     "another", program("threads", "prepared", using="psycopg2")),
    ("s46-threads-psycopg2", "threading, psycopg2, PostgreSQL: one Session, a flush in each of two threads",
     program("threads", "flushing", using="psycopg2")),
    ("s48-threads-psycopg2", "threading, psycopg2, PostgreSQL: one Session, two first statements",
     program("threads", "provisioning", using="psycopg2")),
    ("s49-threads-psycopg2", "threading, psycopg2, PostgreSQL: one Session, close() while another thread connects",
     program("threads", "closes", using="psycopg2")),
    ("s49-commit-threads-pymysql", "threading, PyMySQL, MariaDB: one Session, close() while another thread commits",
     program("threads", "closes in commit", using="PyMySQL")),
    ("s18-threads-pymysql", "threading, PyMySQL, MariaDB: one connection for two threads",
     until("Packet sequence", program("threads", "sequence", using="PyMySQL", hangs=True))),
    ("s17-threads-mysqlclient", "threading, mysqlclient, MariaDB: one connection for two threads",
     program("threads", "sequence", using="mysqlclient", hangs=True)),
    ("s50-threads-psycopg2", "threading, psycopg2, PostgreSQL", program("threads", "attached", using="psycopg2")),
    ("s51-threads-psycopg2", "threading, psycopg2, PostgreSQL: a lazy load after the end of the session",
     program("threads", "detached", using="psycopg2")),
    ("s51-refresh-threads-pymysql", "threading, PyMySQL, MariaDB: an expired attribute after the end of the session",
     program("threads", "refreshed", using="PyMySQL")),
    ("s52-worker-psycopg2", "psycopg2, PostgreSQL: one Session for all jobs, no rollback",
     program("threads", "broken", using="psycopg2")),
    ("s52-worker-pymysql", "PyMySQL, MariaDB: one Session for all jobs, no rollback",
     program("threads", "broken", using="PyMySQL")),
    ("s52-lost-psycopg2", "psycopg2, PostgreSQL: one Session for all jobs, whose connection is ended by the server",
     program("threads", "lost", using="psycopg2")),
    ("s53-two-sessions-psycopg2", "psycopg2, PostgreSQL", program("threads", "deleted", using="psycopg2")),
    ("s53-update-psycopg2", "psycopg2, PostgreSQL: an UPDATE of a row that another session deleted",
     program("threads", "updated after", using="psycopg2")),
    ("s55-threads-psycopg2", "threading, psycopg2, PostgreSQL: sessions that nobody closes",
     program("threads", "exhausted", using="psycopg2")),
    ("s55-flask-psycopg2", "gunicorn, Flask, psycopg2, PostgreSQL: a report with more sessions than connections",
     web(gunicorn, ["/report?sessions=9"], ["/"], using="psycopg2", workers=1, ends=signal.SIGTERM,
         server_options={"timeout": 60},
         options={"pool_timeout": 2, "pool_size": 3, "max_overflow": 2})),
    ("s62-one-connection-asyncpg", "asyncio, asyncpg, PostgreSQL: two tasks, one connection of asyncpg",
     program("async", "one connection", using="asyncpg")),
    ("s62-rolled-back-asyncpg", "asyncio, asyncpg, PostgreSQL: a rollback while another task waits for an answer",
     program("async", "rolled back", using="asyncpg")),
    ("s48-gather-asyncpg", "asyncio, asyncpg, PostgreSQL: gather on a new AsyncSession",
     program("async", "gathered first", using="asyncpg")),
    ("s49-gather-asyncpg", "asyncio, asyncpg, PostgreSQL: one of two tasks fails",
     program("async", "leaves early", using="asyncpg")),
    ("s63-lazy-asyncpg", "asyncio, asyncpg, PostgreSQL: a lazy load", program("async", "lazy", using="asyncpg")),
    ("s63-expired-psycopg", "asyncio, psycopg, PostgreSQL: an expired attribute",
     program("async", "expired", using="psycopg async")),
    ("s64-loops-asyncpg", "asyncio, asyncpg, PostgreSQL: asyncio.run() per job",
     program("async", "a loop per job", using="asyncpg")),
    ("s64-loops-asyncmy", "asyncio, asyncmy, MariaDB: asyncio.run() per job",
     program("async", "a loop per job", using="asyncmy")),
    ("s65-loop-ends-asyncmy", "asyncio, asyncmy, MariaDB: dispose() in a later loop",
     program("async", "loop ends", using="asyncmy")),
    ("s64-loop-ends-asyncpg", "asyncio, asyncpg, PostgreSQL: dispose() in a later loop",
     program("async", "loop ends", using="asyncpg")),
    ("s63-dispose-asyncmy", "asyncio, asyncmy, MariaDB: dispose() without a loop",
     program("async", "closed at the end", using="asyncmy")),
    ("s63-dispose-asyncpg", "asyncio, asyncpg, PostgreSQL: dispose() without a loop",
     program("async", "closed at the end", using="asyncpg")),
    ("s66-forgotten-asyncpg", "asyncio, asyncpg, PostgreSQL: sessions that nobody closes",
     program("async", "forgotten", using="asyncpg")),
    ("none-unique-asyncpg", "asyncio, asyncpg, PostgreSQL", program("async", "integrity", using="asyncpg")),
    ("none-task-never-retrieved-asyncpg", "asyncio, asyncpg, PostgreSQL: a task that nobody awaits fails",
     program("async", "unawaited", using="asyncpg")),
    ("s82-spawn", "multiprocessing, spawn: an Engine as an argument", program("spawn", "engine", using="psycopg2")),
    ("s82-executor", "ProcessPoolExecutor, forkserver: an Engine as an argument",
     program("spawn", "engine in an executor", using="psycopg2")),
    ("s83-session", "multiprocessing, spawn: a Session as an argument", program("spawn", "session", using="psycopg2")),
    ("s82-scoped-session", "multiprocessing, spawn: a scoped_session as an argument",
     program("spawn", "scoped session", using="psycopg2")),
    ("s01-celery-psycopg2-tls", "Celery, psycopg2 over TLS, PostgreSQL: reads at import",
     worker(*[("count_items",)] * 6, using="psycopg2", tls=True, together=4, reads_at_import=True)),
    ("s04-celery-psycopg2", "Celery, psycopg2, PostgreSQL: reads at import, two tasks at a time",
     until("PGRES_TUPLES_OK", worker(*[("sell", 1, 30), ("sell", 2, 30)] * 2, using="psycopg2", together=5,
     reads_at_import=True))),
    ("s64-celery-asyncpg", "Celery, asyncpg, PostgreSQL: asyncio.run() per task",
     worker(*[("async_count",)] * 3, using="asyncpg", options=("--concurrency", "1"))),
    ("s51-celery-psycopg2", "Celery, psycopg2, PostgreSQL", worker(("notify", 1), using="psycopg2")),
    ("s52-celery-psycopg2", "Celery, psycopg2, PostgreSQL: a scoped_session that no task removes",
     worker(("add_item", 1), ("add_item", 8), ("add_item", 9), using="psycopg2", options=("--concurrency", "1"))),
    ("none-celery-start-stop", "Celery, psycopg2, PostgreSQL: healthy tasks",
     worker(("count_items",), ("sell", 1), ("count_items",), using="psycopg2")),
    ("none-celery-key-error", "Celery, psycopg2, PostgreSQL", worker(("currency",), using="psycopg2")),
    ("s56-fastapi-leak-psycopg2", "uvicorn, FastAPI, psycopg2, PostgreSQL: sessions that nobody closes",
     api(*[["/leak"]] * 5, using="psycopg2", options={"pool_size": 2, "max_overflow": 1, "pool_timeout": 1})),
    ("s56-fastapi-psycopg2", "uvicorn, FastAPI, psycopg2, PostgreSQL: sync endpoints, Depends(get_db), 60 at once",
     api(["/me"] * 80, using="psycopg2", options={"pool_timeout": 3}, slow=0.5)),
    ("s62-fastapi-asyncpg", "uvicorn, FastAPI, asyncpg, PostgreSQL: one connection of asyncpg for all requests",
     api(["/raw/1"], ["/raw/1", "/raw/2"], using="asyncpg")),
    ("s63-fastapi-asyncpg", "uvicorn, FastAPI, asyncpg, PostgreSQL: a response model with a relationship",
     api(["/customers/1"], using="asyncpg")),
    ("s51-fastapi-psycopg2", "uvicorn, FastAPI, psycopg2, PostgreSQL: a response made after the session's end",
     api(["/closed/1"], using="psycopg2")),
    ("none-uvicorn-start-stop", "uvicorn, FastAPI, psycopg2, PostgreSQL", api(["/items"], using="psycopg2")),
    ("none-fastapi-unique-psycopg2", "uvicorn, FastAPI, psycopg2, PostgreSQL", api(["/add/1"], using="psycopg2")),
    ("s57-psycopg2", "psycopg2, PostgreSQL: more pools than the server has connections",
     program("errors", "too-many", using="psycopg2", engines=110)),
    ("s57-pymysql", "PyMySQL, MariaDB: more pools than the server has connections",
     program("errors", "too-many", using="PyMySQL", engines=160)),
    ("s57-asyncpg", "asyncio, asyncpg, PostgreSQL: more pools than the server has connections",
     program("async", "too many", using="asyncpg", engines=110)),
    ("twin-idle-in-transaction-psycopg2", "psycopg2, PostgreSQL with idle_in_transaction_session_timeout",
     program("errors", "idle-in-transaction", using="psycopg2", limit=LIMIT_PG)),
    ("twin-idle-in-transaction-psycopg2-tls", "psycopg2 over TLS, PostgreSQL with idle_in_transaction_session_timeout",
     program("errors", "idle-in-transaction", using="psycopg2", tls=True, limit=LIMIT_PG)),
    ("s59-psycopg", "psycopg, PostgreSQL with idle_in_transaction_session_timeout",
     program("errors", "idle-in-transaction", using="psycopg", catches=True, limit=LIMIT_PG)),
    ("twin-idle-in-transaction-pymysql", "PyMySQL, MariaDB with idle_transaction_timeout",
     program("errors", "idle-in-transaction", using="PyMySQL", limit="set session idle_transaction_timeout = 1")),
    *((f"twin-timed-out-{name.lower()}", f"{name}, MariaDB: wait_timeout passes over a pooled connection",
       program("errors", "timed-out", using=name)) for name in ("PyMySQL", "mysqlclient", "mysql-connector")),
    *((f"twin-idle-dropped-{name.lower()}{'-tls' * tls}",
       f"{name}{' over TLS' * tls}, PostgreSQL: the session of a pooled connection is ended",
       program("errors", "idle-dropped", using=name, tls=tls, whoami="select pg_backend_pid()",
               kill="select pg_terminate_backend({})"))
      for name in ("psycopg2", "psycopg") for tls in (False, True)),
    ("twin-idle-dropped-asyncpg", "asyncio, asyncpg, PostgreSQL: the session of a pooled connection is ended",
     program("async", "idle dropped", using="asyncpg")),
    ("twin-idle-dropped-pymysql-tls", "PyMySQL over TLS, MariaDB: the session of a pooled connection is ended",
     program("errors", "idle-dropped", using="PyMySQL", tls=True, whoami="select connection_id()", kill="kill {}")),
    ("none-unique-psycopg2", "psycopg2, PostgreSQL", program("errors", "unique", using="psycopg2")),
    ("none-unique-psycopg", "psycopg, PostgreSQL", program("errors", "unique", using="psycopg", catches=True)),
    ("none-unique-pymysql", "PyMySQL, MariaDB", program("errors", "unique", using="PyMySQL")),
    ("none-unique-mysqlclient", "mysqlclient, MariaDB", program("errors", "unique", using="mysqlclient")),
    ("none-unique-sqlite", "sqlite", program("errors", "unique", using="sqlite")),
    ("none-missing-table-psycopg2", "psycopg2, PostgreSQL", program("errors", "missing-table", using="psycopg2")),
    ("none-missing-table-sqlite", "sqlite", program("errors", "missing-table", using="sqlite", catches=True)),
    ("none-missing-column-pymysql", "PyMySQL, MariaDB", program("errors", "missing-column", using="PyMySQL")),
    ("none-syntax-psycopg", "psycopg, PostgreSQL", program("errors", "syntax", using="psycopg")),
    ("none-not-null-psycopg2", "psycopg2, PostgreSQL", program("errors", "not-null", using="psycopg2", catches=True)),
    ("none-division-psycopg2", "psycopg2, PostgreSQL", program("errors", "division", using="psycopg2")),
    ("twin-administrator-psycopg2", "psycopg2, PostgreSQL: pg_terminate_backend() in mid-work",
     program("errors", "administrator", using="psycopg2")),
    ("none-administrator-psycopg-tls", "psycopg over TLS, PostgreSQL: pg_terminate_backend() in mid-work",
     program("errors", "administrator", using="psycopg", tls=True)),
    ("none-statement-timeout-psycopg2", "psycopg2, PostgreSQL", program("errors", "statement-timeout",
     using="psycopg2", catches=True)),
    ("none-key-error", "a program without a mistake of the database's", program("errors", "key-error", using="sqlite")),
    ("none-echo-psycopg2", "psycopg2, PostgreSQL with echo=True",
     program("errors", "healthy", using="psycopg2", options={"echo": True})),
)  # fmt: skip

for row in ROWS:
    recording(*row)
