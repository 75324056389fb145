"""The reports for other projects: each script shows what its report says, and nothing where the cause is taken out."""

import re
import subprocess
import sys

import pytest

from lab import components
from lab.databases import USER
from lab.drivers import arguments
from lab.process import ROOT, environment

FOLDER = ROOT / "docs" / "upstream"
PAGE = (ROOT / "docs" / "upstream.md").read_text()
GOES_ON = "the parent goes on"
# Which of the databases take TLS too.
TLS = ("postgresql",)


@pytest.mark.parametrize("script", ["sqlalchemy_close_false", "sqlalchemy_pid_guard"])
@pytest.mark.parametrize("name", ["mysqlclient", "mysql-connector", "PyMySQL", "psycopg2", "psycopg", "pg8000"])
def test_letting_go_ends_the_parents_connection_with_two_drivers(name, script, database):
    """As reported to SQLAlchemy: with two drivers the parent's connection is gone, with the others it goes on."""
    url = arguments(name, database(name))["url"]
    done = _run((FOLDER / f"{script}.py").read_text(), url)

    if name in ("mysqlclient", "mysql-connector"):
        _is_reported(done)
    else:
        assert (0, GOES_ON) == (done.returncode, done.stdout.strip()), done.stderr


DESTRUCTORS = {"mysqlclient": "mysqlclient_destructor", "mysql-connector": "mysql_connector_destructor"}


@pytest.mark.parametrize("name", DESTRUCTORS)
def test_a_destructor_ends_the_parents_connection(name, database):
    """As reported to the drivers: the child's destructor does it; with the one line taken out, the parent goes on."""
    script = (FOLDER / f"{DESTRUCTORS[name]}.py").read_text()
    where = _where(database(name))

    _is_reported(_run(script, *where))
    kept = _run(script.replace("    del connection\n", ""), *where)
    assert (0, GOES_ON) == (kept.returncode, kept.stdout.strip()), kept.stderr


def test_a_collected_asyncpg_connection_leaves_its_parent_waiting(database):
    """As reported to asyncpg: the parent's question is not answered in time; with the one line taken out, it is."""
    script = (FOLDER / "asyncpg_destructor.py").read_text()
    where = _where(database("asyncpg"))

    _is_reported(_run(script, *where))
    kept = _run(script.replace("    del connection\n", ""), *where)
    assert (0, GOES_ON) == (kept.returncode, kept.stdout.strip()), kept.stderr


def test_pg8000_lets_an_ssl_error_through(database):
    """As reported to pg8000: ssl.SSLError, and not the driver's own error, which a caller could catch as one."""
    components.need("postgresql-tls")
    done = _run((FOLDER / "pg8000_ssl_error.py").read_text(), *_where(database("pg8000")))

    _is_reported(done)
    assert "caught" not in done.stdout


@pytest.mark.parametrize("name", ["psycopg", "PyMySQL"])
def test_a_locking_get_returns_the_old_value(name, database):
    """As reported to SQLAlchemy: another's work is overwritten under a lock, and with populate_existing it is not."""
    script = (FOLDER / "sqlalchemy_get_for_update.py").read_text()
    url = arguments(name, database(name))["url"]
    mended = script.replace("with_for_update=True", "with_for_update=True, populate_existing=True")
    said = [_run(text, url).stdout for text in (script, mended)]

    assert ["110", "510"] == [line.split()[-1] for line in said]
    assert all(line in PAGE for line in said)


@pytest.mark.parametrize("name", ["psycopg", "PyMySQL"])
def test_a_thread_that_ends_keeps_its_connection(name, database):
    """As reported to SQLAlchemy: the pool is exhausted by threads that have ended; collected, or removed, it is not."""
    script = (FOLDER / "sqlalchemy_dying_thread.py").read_text()
    url = arguments(name, database(name))["url"]
    line = "    thread.join()\n"
    collected = script.replace(line, f"{line}    gc.collect()\n")
    removed = script.replace("target=ask", "target=lambda: (ask(), Session.remove())")
    said = [_run(text, url).stdout for text in (script, collected, removed)]

    assert said[1] == said[2]
    assert all(text in PAGE for text in said)
    assert [2, 1] == [len(text.splitlines()) for text in said[:2]]


def _where(running):
    return "127.0.0.1", str(running.port), USER, running.name


def _run(script, *where):
    command = [sys.executable, "-c", script, *where]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)


def _is_reported(done):
    """It failed, with an error of the class that the page shows: the words are the client library's, and vary."""
    raised = re.findall(r"^([\w.]+Error)(?:: |$)", done.stderr, re.MULTILINE)

    assert done.returncode
    assert raised
    assert re.search(rf"^{raised[-1]}(: |$)", PAGE, re.MULTILINE), done.stderr
