"""The logs there are: one row each. A new log is one row, and a program if none of those here makes its mistake."""

from __future__ import annotations

import os
import signal

from lab import servers
from lab.logs import get, program, recording, run, settings_for, until
from lab.process import wait_until

SHOP = "lab.scenes.log_shop"


def web(server, *laps, using, tls=False, options={}, workers=2, ends=signal.SIGINT, **settings):
    """A recording of the shop behind *server*, asked for every path of each of *laps* at once."""

    def record():
        told = prepared(using, tls, **settings)
        with server(SHOP, workers=workers, settings=told, options=options) as running:
            for paths in laps:
                get(running.port, *paths)
            os.kill(running.master, ends)
            wait_until(lambda: not running.process.running, "the end", 60)
            return running.process.text()

    return record


def prepared(using, tls=False, **settings):
    """Settings, with the tables made."""
    told = settings_for(using, tls, **settings)
    run("errors", "key-error", settings=told)
    return told


uwsgi, gunicorn = servers.uwsgi, servers.gunicorn
TURNS = [["/turn?lap=1", "/turn?lap=1"], ["/turn?lap=2", "/turn?lap=2"]]
ROWS = (
    ("s01-uwsgi-psycopg2-tls", "uWSGI, Flask, psycopg2 over TLS, PostgreSQL: the master reads while it imports",
     web(uwsgi, *TURNS, using="psycopg2", tls=True, options={"log-5xx": True}, reads_at_import=True)),
    ("s01-gunicorn-psycopg2-tls", "gunicorn --preload, Flask, psycopg2 over TLS, PostgreSQL: reads at import",
     web(gunicorn, *TURNS, using="psycopg2", tls=True, options={"preload": True}, ends=signal.SIGTERM,
         reads_at_import=True)),
    ("s01-multiprocessing-psycopg-tls", "multiprocessing, psycopg over TLS, PostgreSQL: child reads, then parent",
     program("fork", "child reads", using="psycopg", tls=True)),
    ("s01-multiprocessing-psycopg2-tls", "multiprocessing, psycopg2 over TLS, PostgreSQL: child reads, then parent",
     program("fork", "child reads", using="psycopg2", tls=True)),
    ("s01-multiprocessing-pymysql-tls", "multiprocessing, PyMySQL over TLS, MariaDB: child reads, then parent",
     program("fork", "child reads", using="PyMySQL", tls=True)),
    ("s01-multiprocessing-mysqlclient-tls", "multiprocessing, mysqlclient over TLS, MariaDB: child reads, then parent",
     program("fork", "child reads", using="mysqlclient", tls=True)),
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
    ("s04-multiprocessing-psycopg2", "multiprocessing, psycopg2, PostgreSQL: three children work at once",
     until("PGRES_TUPLES_OK", program("fork", "together", using="psycopg2", hangs=True))),
    ("s17-multiprocessing-mysqlclient", "multiprocessing, mysqlclient, MariaDB: three children work at once",
     until("Commands out of sync", program("fork", "together", using="mysqlclient", hangs=True))),
    ("s17-multiprocessing-pymysql", "multiprocessing, PyMySQL, MariaDB: three children work at once",
     until("Command Out of Sync", program("fork", "together", using="PyMySQL", hangs=True))),
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
    ("none-administrator-psycopg2", "psycopg2, PostgreSQL: pg_terminate_backend() in mid-work",
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
