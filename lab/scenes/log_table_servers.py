"""The logs of servers, and of programs that need one of their own: rows as in :mod:`lab.scenes.log_table`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from lab import databases
from lab.databases import free_port
from lab.drivers import arguments
from lab.experiments.warning import WARNS_SINCE, _interpreters
from lab.logs import ALONE, emptied, get, recording, run, settings_for, until
from lab.nginx import nginx
from lab.pgbouncer import pgbouncer
from lab.process import ROOT, environment, folder, kept, wait_until
from lab.scenes.log_table import LIMIT_PG, SHOP, gunicorn, prepared, uwsgi, web

PREFIX = {"log_line_prefix": "%m [%p] %q%u@%d ", "log_connections": "on", "log_disconnections": "on"}


def postgresql_says(script, *words, using, tls=False, hangs=False, **settings):
    """A recording of what PostgreSQL logs while a program of ours runs, from its start to its end."""

    def record():
        with databases.postgresql(tls=tls, settings=PREFIX) as database:
            told = {"engine": arguments(using, database, tls=tls), **settings}
            run(script, *words, settings=told, patience=12 if hangs else 90, hangs=hangs)
            os.kill(database.server.pid, signal.SIGINT)
            wait_until(lambda: not database.server.running, "the end", 30)
            return database.log

    return record


def backend_killed():
    """A program whose pooled connection loses its backend to the system, as one does when memory runs out."""
    with databases.postgresql(tls=True) as database:
        kill = "copy (select 1) to program '(sleep 0.2; kill -9 {}) > /dev/null 2>&1 &'"
        told = {"engine": arguments("psycopg2", database, tls=True), "whoami": "select pg_backend_pid()", "kill": kill}
        return run("errors", "idle-dropped", settings=told)


def mariadb_says(script, *words, using, tls=False, hangs=False, **settings):
    """As :func:`postgresql_says` for MariaDB."""

    def record():
        with databases.mariadb(tls=tls) as database:
            told = {"engine": arguments(using, database, tls=tls), **settings}
            run(script, *words, settings=told, patience=12 if hangs else 90, hangs=hangs)
            os.kill(database.server.pid, signal.SIGTERM)
            wait_until(lambda: not database.server.running, "the end", 30)
            return database.log

    return record


def elsewhere(script, *words, using, url=None, connect_args=None, port=None, **settings):
    """A recording of a program that is sent to another place than the database is at."""

    def record():
        told = settings_for(using, fills=False, **settings)
        place = urlsplit(told["engine"]["url"])
        at = free_port() if port == "free" else place.port
        told["engine"]["url"] = (url or "{scheme}://lab@127.0.0.1:{port}/postgres").format(scheme=place.scheme, port=at)
        told["engine"]["connect_args"] = {**told["engine"].get("connect_args", {}), **(connect_args or {})}
        return run(script, *words, settings=told)

    return record


def hung_up(using):
    """A recording of a connect to something that accepts and closes, as a proxy does that has nobody behind it."""

    def record():
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def hang_up():
                with contextlib.suppress(OSError):
                    while True:
                        client = listener.accept()[0]
                        client.recv(1024)
                        client.close()

            threading.Thread(target=hang_up, daemon=True).start()
            port = listener.getsockname()[1]
            return elsewhere("errors", "connect", using=using, url=f"{{scheme}}://lab@127.0.0.1:{port}/postgres")()

    return record


def wrong_password(using):
    """A recording of a login with a password that is not the role's."""

    def record():
        database = emptied("postgresql")
        hba = database.ask("show hba_file")[0][0]
        old = Path(hba).read_text()
        try:
            Path(hba).write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            database.ask("select pg_reload_conf()")
            time.sleep(1)
            return elsewhere("errors", "connect", using=using, url="{scheme}://lab:wrong@127.0.0.1:{port}/postgres")()
        finally:
            Path(hba).write_text(old)
            database.ask("select pg_reload_conf()")
            time.sleep(1)

    return record


def activity(path, requests):
    """A recording of ``pg_stat_activity`` in psql while the shop serves *requests* for *path*."""

    def record():
        told = prepared("psycopg2")
        told["engine"]["connect_args"]["application_name"] = "shop"
        options = {"worker-class": "gthread", "threads": 8}
        with gunicorn(SHOP, workers=1, settings=told, options=options) as running:
            asked = threading.Thread(target=get, args=[running.port, *[path] * requests])
            asked.start()
            time.sleep(3)
            place = urlsplit(told["engine"]["url"])
            statement = (
                "select pid, usename, application_name, state, wait_event_type, wait_event, now() - xact_start as "
                "xact_age, query from pg_stat_activity where backend_type = 'client backend' order by xact_start"
            )
            command = ["psql", "-h", "127.0.0.1", "-p", str(place.port), "-U", "lab", "postgres", "-c", statement]
            table = subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout
            asked.join()
        return f"postgres=# {statement};\n{table}"

    return record


def behind_nginx(*laps, tls=False, **settings):
    """A recording of the logs of nginx and of the uWSGI behind it, one after the other."""

    def record():
        told = prepared("psycopg2", tls, **settings)
        options = {"socket": "127.0.0.1:0", "log-5xx": True, "harakiri": 4}
        with uwsgi(SHOP, workers=2, settings=told, options=options) as running:
            with nginx({"/": f"uwsgi://127.0.0.1:{running.port}"}) as front:
                for paths in laps:
                    get(front.port, *paths)
                said = front.process.text()
            logs = {"nginx/error": said, "uwsgi/shop": running.process.text()}
            return "\n".join(f"==> /var/log/{name}.log <==\n{log}" for name, log in logs.items())

    return record


def bounced(**options):
    """A recording of clients of asyncpg behind a PgBouncer that pools by the transaction."""

    def record():
        database = emptied("postgresql")
        run("async", "connect", settings={"engine": arguments("asyncpg", database)})
        with pgbouncer(database, pool_mode="transaction", default_pool_size=2, **options) as bouncer:
            told = {"engine": arguments("asyncpg", bouncer.front), "fills": False}
            return run("async", "bounced", settings=told)

    return record


def command(*words, seconds=0, **settings):
    """A recording of a command that starts a server of ours with a mistake, ended after so many *seconds*."""

    def record():
        told = settings_for("sqlite", **settings)
        import json

        with folder() as home:
            env = {"LAB_APP": json.dumps({**told, "home": str(home), "workers": 1})}
            with kept([sys.executable, "-m", *words], home, name=words[0], env=env) as process:
                with contextlib.suppress(Exception):
                    wait_until(lambda: not process.running, "the end", seconds or 30)
                return process.text()

    return record


def newer_python():
    """What a newer Python says of a fork beside a thread."""
    found = [place for minor, (place, _) in _interpreters().items() if minor >= WARNS_SINCE]
    with folder() as home:
        script = ROOT / "lab" / "scenes" / "log_warning.py"
        with kept([found[0], "-W", "default", "-P", script], home, name="warning", env={"PYTHONPATH": ""}) as process:
            wait_until(lambda: not process.running, "the end", 30)
            return process.text()


@contextlib.contextmanager
def language(name):
    """Programs and servers that are started in the block speak the language *name*."""
    before = os.environ.get("LANGUAGE")
    os.environ["LANGUAGE"] = name
    try:
        yield
    finally:
        os.environ.pop("LANGUAGE")
        if before is not None:
            os.environ["LANGUAGE"] = before


def in_language(name, script, *words, using, client=True, tls=False, **settings):
    """A recording of a program and a PostgreSQL that speak the language *name*."""

    def record():
        # The libpq of a wheel knows no language; the system's does.
        env = {"PSYCOPG_IMPL": "python"} if using == "psycopg" else {}
        with language(name), databases.postgresql(tls=tls, settings=PREFIX) as database:
            # Only now: the lab knows that a server has started by what it says in English.
            database.ask("alter role lab set lc_messages = 'C.UTF-8'")
            told = {"engine": arguments(using, database, tls=tls), **settings}
            said = run(script, *words, settings=told, env=env)
            return said if client else database.log

    return record


def german_refusal():
    """A program that speaks German and finds no server."""
    told = settings_for("psycopg", fills=False)
    told["engine"]["url"] = f"postgresql+psycopg://lab@127.0.0.1:{free_port()}/postgres"
    with language("de"):
        return run("errors", "connect", settings=told, env={"PSYCOPG_IMPL": "python"})


BUSY = [[f"/stock/{number % 3 + 1}" for number in range(16)]] * 4
ROWS = (
    ("s01-postgresql-server-tls", "PostgreSQL's log while children of a program with psycopg2 over TLS share its "
     "connection", postgresql_says("fork", "child reads", using="psycopg2", tls=True)),
    ("s09-postgresql-server", "PostgreSQL's log while children of a program with psycopg2 share its connection",
     until("already a transaction", postgresql_says("fork", "together", using="psycopg2", hangs=True), 8)),
    ("twin-backend-killed-psycopg2-tls", "psycopg2 over TLS, PostgreSQL: the system kills the backend of a pooled "
     "connection", backend_killed),
    ("none-postgresql-server", "PostgreSQL's log of healthy work, start to end",
     postgresql_says("errors", "healthy", using="psycopg2")),
    ("none-postgresql-server-unique", "PostgreSQL's log of a mistake",
     postgresql_says("errors", "unique", using="psycopg2")),
    ("s57-postgresql-server", "PostgreSQL's log", postgresql_says("errors", "too-many", using="psycopg2", engines=105)),
    ("s59-postgresql-server", "PostgreSQL's log",
     postgresql_says("errors", "idle-in-transaction", using="psycopg2", limit=LIMIT_PG)),
    ("none-mariadb-server", "MariaDB's log of healthy work, start to end",
     mariadb_says("errors", "healthy", using="PyMySQL")),
    ("twin-exit-mariadb-server", "MariaDB's log when a program with PyMySQL ends and leaves its pool to the system",
     mariadb_says("errors", "unclosed", using="PyMySQL")),
    ("s21-mariadb-server-tls", "MariaDB's log while a child of a program with mysqlclient over TLS shares its "
     "connection", mariadb_says("fork", "child reads", using="mysqlclient", tls=True)),
    ("twin-timed-out-mariadb-server", "MariaDB's log when wait_timeout passes over a pooled connection",
     mariadb_says("errors", "timed-out", using="PyMySQL")),
    ("none-refused-psycopg2", "psycopg2, PostgreSQL: a port on which nobody listens",
     elsewhere("errors", "connect", using="psycopg2", port="free")),
    ("none-refused-pymysql", "PyMySQL, MariaDB: a port on which nobody listens",
     elsewhere("errors", "connect", using="PyMySQL", port="free")),
    ("none-refused-asyncpg", "asyncpg, PostgreSQL: a port on which nobody listens",
     elsewhere("async", "connect", using="asyncpg", port="free")),
    ("none-unknown-database-psycopg2", "psycopg2, PostgreSQL",
     elsewhere("errors", "connect", using="psycopg2", url="{scheme}://lab@127.0.0.1:{port}/shop")),
    ("none-unknown-database-mysqlclient", "mysqlclient, MariaDB",
     elsewhere("errors", "connect", using="mysqlclient", url="{scheme}://lab@127.0.0.1:{port}/shop")),
    ("none-wrong-password-pymysql", "PyMySQL, MariaDB",
     elsewhere("errors", "connect", using="PyMySQL", url="{scheme}://lab:wrong@127.0.0.1:{port}/lab")),
    ("none-wrong-password-psycopg", "psycopg, PostgreSQL", wrong_password("psycopg")),
    ("none-unknown-host-psycopg2", "psycopg2, PostgreSQL",
     elsewhere("errors", "connect", using="psycopg2", url="{scheme}://lab@db.invalid:5432/shop")),
    ("none-certificate-psycopg2", "psycopg2 over TLS, PostgreSQL: a certificate of an unknown authority",
     elsewhere("errors", "connect", using="psycopg2", connect_args={"sslmode": "verify-full",
               "sslrootcert": "/etc/ssl/certs/ca-certificates.crt"})),
    ("none-certificate-pymysql", "PyMySQL over TLS, MariaDB: a certificate of an unknown authority",
     elsewhere("errors", "connect", using="PyMySQL", url="{scheme}://lab@127.0.0.1:{port}/lab",
               connect_args={"ssl_disabled": False, "ssl": {"ca": "/etc/ssl/certs/ca-certificates.crt"}})),
    ("none-hung-up-psycopg2", "psycopg2 and a listener that accepts and closes", hung_up("psycopg2")),
    ("none-import-error-gunicorn", "gunicorn: a module that is not there",
     command("gunicorn", "--no-control-socket", "--bind", "127.0.0.1:0", "lab.scenes.log_nowhere:application")),
    ("none-redis-refused-celery", "Celery: a Redis that is not there",
     command("celery", "-A", "lab.scenes.log_celery", "worker", "--loglevel", "INFO", "--concurrency", "1", seconds=12,
             broker="redis://127.0.0.1:1/0")),
    ("none-uwsgi-lazy-apps", "uWSGI with lazy-apps, Flask, psycopg2 over TLS, PostgreSQL: healthy work",
     web(uwsgi, ["/turn?lap=1"] * 2, ["/"] * 4, using="psycopg2", tls=True, reads_at_import=True,
         server_options={"lazy-apps": True, "log-5xx": True})),
    ("none-gunicorn-start-stop", "gunicorn, Flask, psycopg2, PostgreSQL: healthy work",
     web(gunicorn, ["/"] * 4, using="psycopg2", server_options={"access-logfile": "-"}, ends=signal.SIGTERM)),
    ("none-flask-key-error", "gunicorn, Flask, psycopg2, PostgreSQL: a KeyError in a view",
     web(gunicorn, ["/settings"], using="psycopg2", workers=1, ends=signal.SIGTERM)),
    ("none-nginx-uwsgi", "nginx, uWSGI, Flask, psycopg2, PostgreSQL: healthy work", behind_nginx(["/"] * 3)),
    ("none-slow-view-nginx-uwsgi", "nginx, uWSGI with harakiri, Flask, psycopg2, PostgreSQL: a view that is slow",
     behind_nginx(["/slow?seconds=9"])),
    ("s04-nginx-uwsgi", "nginx, uWSGI with harakiri, Flask, psycopg2, PostgreSQL: reads at import",
     until(r"(?s)prematurely closed.*PGRES_TUPLES_OK", behind_nginx(*BUSY, reads_at_import=True), 8)),
    ("s04-uwsgi-harakiri", "uWSGI with harakiri, Flask, psycopg2, PostgreSQL: reads at import",
     until("HARAKIRI", web(uwsgi, *BUSY, using="psycopg2", reads_at_import=True, server_options={"harakiri": 4}), 8)),
    ("s17-uwsgi-mysqlclient", "uWSGI with harakiri, Flask, mysqlclient, MariaDB: reads at import",
     until("Commands out of sync", web(uwsgi, *BUSY, using="mysqlclient", reads_at_import=True,
           server_options={"harakiri": 4}), 8)),
    ("s58-psql", "psql, PostgreSQL while gunicorn's views hold their transactions", activity("/slow?seconds=8", 8)),
    ("none-psql-idle", "psql, PostgreSQL while nothing is to do", activity("/", 8)),
    ("s69-pgbouncer-asyncpg", "PgBouncer, asyncpg, PostgreSQL", bounced()),
    ("s81-python", f"multiprocessing beside a thread, Python 3.12 or newer, {ALONE}", newer_python),
    ("s59-german-psycopg", "psycopg, PostgreSQL, both in German",
     in_language("de", "errors", "idle-in-transaction", using="psycopg", limit=LIMIT_PG)),
    ("s07-german-psycopg", "multiprocessing, psycopg, PostgreSQL, both in German",
     in_language("de", "fork", "child disposes", using="psycopg")),
    ("s03-french-psycopg-tls", "multiprocessing, psycopg over TLS, PostgreSQL, both in French",
     in_language("fr", "fork", "child disposes", using="psycopg", tls=True)),
    ("s01-german-psycopg-tls", "multiprocessing, psycopg over TLS, PostgreSQL, both in German",
     in_language("de", "fork", "child reads", using="psycopg", tls=True)),
    ("s59-german-server", "PostgreSQL's log in German",
     in_language("de", "errors", "idle-in-transaction", using="psycopg2", client=False, limit=LIMIT_PG)),
    ("none-refused-german-psycopg", "psycopg, PostgreSQL, libpq in German: a port on which nobody listens",
     german_refusal),
    ("none-unique-german-psycopg2", "psycopg2, PostgreSQL, the server in German",
     in_language("de", "errors", "unique", using="psycopg2")),
)  # fmt: skip

for row in ROWS:
    recording(*row)
