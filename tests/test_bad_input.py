"""What goes wrong around the lab ends in one clear line, in an exit code, and with nothing left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from leftovers import nothing_is_left, somewhere

from lab import components, databases, drivers, evidence
from lab.process import ROOT, LabError, environment, folder, kept, play, wait_until

DATABASES = ["postgresql", "mariadb"]

# ``python -m lab`` with one experiment, which uses what the first argument names.
RUN = """
import os, signal, sys, threading
from lab import __main__, databases, load, servers, trials
from lab.evidence import Experiment
from lab.process import wait_until

what, place = sys.argv[1:]

def kill_the_database_of(driver):
    it = trials.setup(driver)
    with databases.start(it.database) as database, trials.serve(it, database) as server:
        threading.Timer(0.3, os.kill, [database.server.pid, signal.SIGKILL]).start()
        wait_until(lambda: load.fire(server.port, 20, concurrency=2) and not database.server.running, "its end")
        trials.masters_connection(server, database)

def run(effort):
    if what in ("uwsgi", "gunicorn"):
        with getattr(servers, what)("shop", workers=1, options={"pythonpath": place}):
            return []
    if what not in ("postgresql", "mariadb"):
        return kill_the_database_of(what)
    with databases.start(what):
        return []

__main__.experiments = lambda: {"probe": Experiment("probe", (), run, ())}
__main__.save = lambda evidence: None
sys.exit(__main__.main(["probe"]))
"""


@pytest.fixture
def place():
    """A temporary folder for the lab to live in."""
    with somewhere() as path:
        yield path


def test_an_unknown_driver_is_one_line():
    """A misspelt driver is answered with those that there are."""
    with pytest.raises(LabError) as raised:
        drivers.driver("psycopg4")

    assert f"no driver 'psycopg4'; known: {', '.join(drivers.ALL_DRIVERS)}" == str(raised.value)


def test_an_unknown_claim_is_one_line(place):
    """A misspelt claim is answered with those that there are."""
    done = _lab("-m", "lab", "no-such-claim", TMPDIR=place)

    assert (2, "") == (done.returncode, done.stdout)
    assert f"no experiment for no-such-claim; known: {', '.join(evidence.experiments())}\n" == done.stderr


@pytest.mark.parametrize("kind", DATABASES)
def test_a_port_that_is_taken_meanwhile_costs_one_more_try(kind, monkeypatch):
    """When somebody takes the port between its choice and its use, the server starts on another one."""
    _need(kind)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], databases.free_port()])
        monkeypatch.setattr(databases, "free_port", lambda: next(ports))
        with databases.start(kind) as database:
            assert taken.getsockname()[1] != database.port
            assert [(1,)] == [tuple(map(int, row)) for row in database.ask("select 1")]


def test_no_port_at_all_is_one_line(monkeypatch):
    """When every port is taken, the start says so after a few tries."""
    _need("postgresql")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(databases, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(LabError) as raised, databases.postgresql():
            pass

    assert "PostgreSQL does not start: the port was taken, 5 times in a row" == str(raised.value)


@pytest.mark.parametrize("kind", DATABASES)
def test_a_full_disk_is_one_line(kind, place):
    """A disk without room ends the start; the line says that it is room that is missing."""
    _need(kind)
    disk = place / "disk"
    disk.mkdir()
    # The mount is seen by this command alone, and gone with it.
    script = f'mount -t tmpfs -o size=8m,mode=1777 full {disk} && cd / && exec "$@"'
    mount = ["unshare", "--mount", "sh", "-c", script, "sh"]
    room = rf" \(only \d MB are free in {disk}\)"
    if subprocess.run([*mount, "true"], stderr=subprocess.DEVNULL).returncode:
        mount, room = ["prlimit", "--fsize=1000000"], ""
    done = _lab("-c", RUN, kind, place, under=mount, TMPDIR=disk)

    assert re.fullmatch(rf"probe: \S+ failed: .+{room}\n", done.stderr)
    assert 1 == done.returncode
    nothing_is_left(place)


@pytest.mark.parametrize("nowhere", ["/proc", None])
def test_no_place_for_a_folder_is_one_line(nowhere, monkeypatch):
    """Where no temporary folder can be made, the line names the variable that helps."""

    def none():
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", lambda: nowhere or none())
    with pytest.raises(LabError) as raised, folder():
        pass

    assert re.fullmatch(r"no private folder: No .+; set TMPDIR to a place that can be written", str(raised.value))


@pytest.mark.parametrize("kind", DATABASES)
def test_a_place_that_servers_cannot_reach_is_one_line(kind, place):
    """A folder that is its owner's alone is no place for servers if the owner is root: they refuse to be root."""
    _need(kind)
    (place / "closed").mkdir(mode=0o700)
    done = _lab("-c", RUN, kind, place, TMPDIR=place / "closed")

    is_root = os.geteuid() == 0
    expected = rf"probe: \S+ failed: .+{place}/closed.+Permission denied\n" if is_root else ""
    assert re.fullmatch(expected, done.stderr)
    assert is_root == done.returncode
    nothing_is_left(place)


@pytest.mark.parametrize(("driver", "name"), [("psycopg2", "PostgreSQL"), ("PyMySQL", "MariaDB")])
def test_a_database_that_dies_under_load_is_one_line(driver, name, place):
    """A database server that is killed in mid-run ends the run with its last words, and leaves no shared memory."""
    _need(drivers.driver(driver).database)
    done = _lab("-c", RUN, driver, place, TMPDIR=place)

    assert re.fullmatch(rf"probe: {name} ended with exit code 137: .+\n", done.stderr)
    assert 1 == done.returncode
    nothing_is_left(place)


@pytest.mark.parametrize(("server", "name"), [("uwsgi", "uWSGI"), ("gunicorn", "gunicorn")])
def test_an_application_that_cannot_be_imported_is_one_line(server, name, place):
    """A server that cannot load its application ends the run with the exception that was raised."""
    (place / "shop.py").write_text("1 / 0\n")
    done = _lab("-c", RUN, server, place, TMPDIR=place)

    assert re.fullmatch(rf"probe: {name} ended with exit code \d+: ZeroDivisionError: division by zero\n", done.stderr)
    assert 1 == done.returncode
    nothing_is_left(place)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("oracle+oracledb://scott:tiger@127.0.0.1:1/x", "oracle+oracledb://scott:***@127.0.0.1:1/x: DPY-6005"),
        ("oracle+oracledb://scott:tiger@nowhere.invalid/x", "oracle+oracledb://scott:***@nowhere.invalid/x: "),
        ("oracle+cx_oracle://scott:tiger@nowhere.invalid/x", "the database: No module named 'cx_Oracle'"),
        ("delphi://scott:tiger@nowhere.invalid/x", "the database: Can't load plugin: sqlalchemy.dialects:delphi"),
        ("scott/tiger@nowhere.invalid", "the database: Could not parse SQLAlchemy URL from given URL string"),
    ],
)
def test_an_oracle_that_cannot_be_reached_is_one_line(url, where):
    """A database of the user's own that does not answer is named without its password."""
    with pytest.raises(LabError) as raised:
        drivers.reach(url)

    assert str(raised.value).startswith(f"cannot reach {where}")
    assert "tiger" not in str(raised.value)
    assert 1 == len(str(raised.value).splitlines())


def test_a_scene_that_fails_is_one_line():
    """A script that fails is named with its exception, and without its arguments: one may hold a password."""
    engine = {"url": "delphi://scott:tiger@nowhere.invalid/x"}
    with pytest.raises(LabError) as raised:
        play("lab.scenes.inherit", engine=engine, question="", protected=False, children=[])

    assert str(raised.value).startswith("lab.scenes.inherit failed: sqlalchemy.exc.NoSuchModuleError: ")
    assert "tiger" not in str(raised.value)


def test_a_server_that_keeps_silent_is_one_line():
    """A wait in vain says what was awaited, and what was said last."""
    command = ["sh", "-c", "echo no room; sleep 600"]
    with pytest.raises(LabError) as raised, folder() as home, kept(command, home, name="server") as server:
        wait_until(server.text, "its word")
        server.wait_for(lambda: False, "start", 0.1)

    assert "waited 0.1 s in vain: server: start; it said last: no room" == str(raised.value)


def test_ctrl_c_is_no_line_at_all(place):
    """Who ends a run in the middle of it is told nothing, and nothing is left or recorded."""
    claim = "asgi-middleware-right"
    recorded = evidence.FOLDER / f"{claim}.json"
    before = recorded.exists() and recorded.read_bytes()
    # A shell starts what is to run in the background with SIGINT ignored, and that is inherited.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "lab", claim]
    env = environment({"TMPDIR": str(place)})
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True, start_new_session=True) as run:
        wait_until(lambda: list(place.glob("lab-*")), f"{claim} begins")
        os.killpg(run.pid, signal.SIGINT)
        said = run.communicate(timeout=60)

    assert (130, ("", "")) == (run.returncode, said)
    assert before == (recorded.exists() and recorded.read_bytes())
    nothing_is_left(place)


def _need(component):
    try:
        components.need(component)
    except components.Missing as missing:
        pytest.skip(str(missing))


def _lab(*arguments, under=(), **env):
    """Run Python in the lab's environment."""
    env = environment({name: str(value) for name, value in env.items()})
    command = [*under, sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
