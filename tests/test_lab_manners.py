"""The lab's manners: however its user ends, nothing of it is left on the machine."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from leftovers import nothing_is_left, processes, somewhere

from lab import components
from lab.process import environment, folder, wait_until

# What is started, and how it is known among processes.
SERVERS = {
    "postgresql": "postgres",
    "mariadb": "mariadbd",
    "sqlite": None,
    "uwsgi": "uwsgi",
    "gunicorn": "gunicorn",
    "uvicorn": "uvicorn",
    "apache": "apache2",
    "replica": "walreceiver",
    "pgbouncer": "pgbouncer",
    "detached": "sleep",
}

# Starts what its first argument names, says so, and ends as the second one says.
USER = """
import contextlib, json, sys, threading, time, urllib.request
from lab import apache, databases, pgbouncer, replica, servers, uvicorn
from lab.process import folder, kept, wait_until

what, end, app = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]
options = {"pythonpath": app}

@contextlib.contextmanager
def detached():
    with folder() as home, kept(["sh", "-c", "setsid -f sleep 600; exec sleep 600"], home, name="sleep") as process:
        yield process

@contextlib.contextmanager
def bouncer():
    with databases.postgresql() as database, pgbouncer.pgbouncer(database) as running:
        yield running.front

@contextlib.contextmanager
def hung():
    with folder() as home, servers.uwsgi("shop", workers=2, options=options, trace=home / "trace") as server:
        ask = lambda: urllib.request.urlopen(f"http://127.0.0.1:{server.port}/")
        threading.Thread(target=ask, daemon=True).start()
        wait_until(lambda: "busy" in [worker["status"] for worker in server.status()["workers"]], "a busy worker")
        yield server

start = {
    "postgresql": databases.postgresql,
    "mariadb": databases.mariadb,
    "sqlite": databases.sqlite,
    "uwsgi": lambda: servers.uwsgi("shop", workers=2, options=options),
    "gunicorn": lambda: servers.gunicorn("shop", workers=2, options=options),
    "uvicorn": lambda: uvicorn.uvicorn("lab.apps.hello", options={"interface": "wsgi"}),
    "apache": lambda: apache.apache("lab.apps.hello", processes=2),
    "replica": replica.replica,
    "pgbouncer": bouncer,
    "detached": detached,
    "hung": hung,
}
with contextlib.ExitStack() as stack:
    started = [stack.enter_context(start[name]()) for name in what]
    print(json.dumps([port for one in started if (port := getattr(one, "port", 0))]), flush=True)
    if end == "exception":
        raise ValueError(end)
    time.sleep(0 if end == "end" else 600)
"""


@pytest.fixture
def place():
    """A temporary folder for the lab to live in, with an application that never answers."""
    with somewhere() as path:
        (path / "shop.py").write_text("import time\ndef application(environ, start_response): time.sleep(600)\n")
        yield path


@pytest.mark.parametrize(
    ("end", "code"),
    [("end", 0), ("exception", 1), (signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda it: getattr(it, "name", it),
)
def test_nothing_survives_the_end_of_its_user(end, code, place):
    """Every kind of server is gone when its block ends, an exception or Ctrl-C leaves it, or its user is killed."""
    with _user(_available(*SERVERS), end, place) as user:
        ports = _ports(user)
        if isinstance(end, signal.Signals):
            # What this test could not see it could not miss.
            assert all(_is_running(SERVERS[name], place) for name in _available(*SERVERS) if SERVERS[name])
            os.killpg(user.pid, end)
        assert code == user.wait(60)

    nothing_is_left(place)
    _are_free(ports)


@pytest.mark.parametrize(
    ("kind", "sign"),
    [("postgresql", "/dev/shm/PostgreSQL."), ("mariadb", "/mariadbd\n")],
    ids=["postgresql", "mariadb"],
)
def test_nothing_survives_a_kill_during_the_start(kind, sign, place):
    """A user who is killed while a database is being made leaves no half of it, and none of its shared memory."""
    with _user(_available(kind), signal.SIGKILL, place) as user:
        wait_until(lambda: _is_mapped(sign, place), f"{kind} is being made")
        user.kill()

    nothing_is_left(place)


def test_nothing_survives_an_impatient_user(place):
    """A second Ctrl-C while the first one is being obeyed leaves nothing behind either."""
    with _user(_available("mariadb", "uwsgi"), signal.SIGINT, place) as user:
        ports = _ports(user)
        for _ in range(2):
            os.killpg(user.pid, signal.SIGINT)
        user.wait(60)

    nothing_is_left(place)
    _are_free(ports)


def test_nothing_survives_when_all_hang(place):
    """A worker that hangs, and the strace that follows it, go with the user who is killed."""
    with _user(_available("hung"), signal.SIGKILL, place) as user:
        ports = _ports(user)
        assert _is_running("strace", place)
        user.kill()

    nothing_is_left(place)
    _are_free(ports)


@contextlib.contextmanager
def _user(what, end, place):
    """A process that uses the lab as USER says, in a process group of its own, as a terminal gives it one."""
    env = environment({"TMPDIR": str(place)})
    # A shell starts what is to run in the background with SIGINT ignored, and that is inherited.
    interruptible = ["env", "--default-signal=INT", sys.executable]
    command = [*interruptible, "-c", USER, json.dumps(what), end if isinstance(end, str) else "wait", str(place)]
    with subprocess.Popen(command, env=env, stdout=-1, stderr=-1, text=True, start_new_session=True) as user:
        try:
            yield user
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(user.pid, signal.SIGKILL)


def _available(*what):
    """Those of *what* that this machine has; the test is skipped if that is none, and in CI if it is not all."""
    needs = {name: name for name in ("postgresql", "mariadb", "pgbouncer")}
    needs |= {"replica": "postgresql", "hung": "strace"}
    there = [name for name in what if name not in needs or components.find(needs[name])]
    if "apache" in there and not (components.find("apache") and importlib.util.find_spec("mod_wsgi")):
        there.remove("apache")
    if not there or (len(there) < len(what) and os.environ.get("CI") == "true"):
        pytest.skip("; ".join(components.report()))
    return there


def _ports(user):
    said = user.stdout.readline()
    assert said, user.stderr.read()
    return json.loads(said)


def _is_running(name, place):
    return any(name in command for command in processes(place).values())


def _is_mapped(file, place):
    for pid in processes(place):
        with contextlib.suppress(OSError):
            if file in Path(f"/proc/{pid}/maps").read_text():
                return True
    return False


def _are_free(ports):
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_nothing_survives_an_end_before_the_folder_is_ready(place, monkeypatch):
    """A folder goes again when its user is interrupted between making it and getting it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr(os, "chown", interrupted)

    with pytest.raises(KeyboardInterrupt), folder(os.getuid()):
        pass
    nothing_is_left(place)
