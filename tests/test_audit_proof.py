"""The audit against what servers do: where it finds something, two processes are on one backend, and else on two.

Every application here asks the database while it is imported. Its two processes meet, and then ask in turn.
"""

import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import databases
from lab.drivers import arguments
from lab.forkers import Celery
from lab.process import ROOT, folder, kept
from lab.servers import gunicorn, uwsgi
from recipes._audit import findings
from recipes._audit.commands import from_command, from_file

SHOP = """
import fcntl, os, time
from pathlib import Path
from sqlalchemy import NullPool, create_engine, text

HERE = Path({here!r})
engine = create_engine({url!r}, connect_args={connect_args!r}{more})
with engine.connect() as connection:
    connection.scalar(text("select 1"))


def ask():
    (HERE / f"met-{{os.getpid()}}").touch()
    until = time.monotonic() + 60
    while len(list(HERE.glob("met-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    with (HERE / "turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with engine.connect() as connection:
            return f"{{os.getpid()}} {{connection.scalar(text('select pg_backend_pid()'))}}"


def application(environ, start_response):
    start_response("200 OK", [])
    return [ask().encode()]


"""
POSTFORK = "from recipes.uwsgi_postfork import install\n\ninstall(engine)\n"
HANDLER = "os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))\n"
OWN_HOOK = "from uwsgidecorators import postfork\n\n\n@postfork\ndef forget():\n    engine.dispose(close=False)\n"
GUNICORN_POSTFORK = "from recipes.gunicorn_postfork import install\n\ninstall(engine)\n"
UNSAFE, SAFE = True, False


@pytest.fixture(scope="module")
def postgresql():
    """A running PostgreSQL, of which the applications ask which backend answers them."""
    with databases.start("postgresql") as running:
        yield running


@pytest.fixture
def shop(postgresql, tmp_path):
    """A function that writes the application, with more code at its end or arguments for its engine."""

    def write(code, more=""):
        text = SHOP.format(here=str(tmp_path), more=more, **arguments("psycopg", postgresql)) + code
        (tmp_path / "shop.py").write_text(text)
        return tmp_path

    return write


def said(settings):
    return bool(findings(settings))


def shared(server):
    """Tell whether the two workers, each asked once, are answered by one backend."""
    with ThreadPoolExecutor(2) as clients:
        got = clients.map(lambda _: urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=90).read(), "ab")
    return _one_backend([answer.split() for answer in got])


def _one_backend(rows):
    processes, backends = map(set, zip(*rows, strict=True))
    assert 2 == len(processes), "the two jobs met in one process"
    return 1 == len(backends)


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        ("", "", UNSAFE),
        ("lazy-apps = true", "", SAFE),
        ("lazy-apps = true\nlazy-apps = off", "", UNSAFE),
        ("lazy-apps = off ; no comment", "", SAFE),
        ("lazy_apps = true", "", UNSAFE),
        ("close-on-exec = true\nclose-on-exec2 = true", "", UNSAFE),
        ("py-call-osafterfork = true", "", UNSAFE),
        ("", POSTFORK, SAFE),
        ("", OWN_HOOK, SAFE),
        ("", HANDLER, UNSAFE),
        ("py-call-osafterfork = true", HANDLER, SAFE),
        ("py-call-uwsgi-fork-hooks = true", HANDLER, SAFE),
    ],
)
def test_of_uwsgi_the_audit_says_what_happens(options, code, expected, shop):
    """What the INI says, and the module that it names, decides alike in the audit and in a real uWSGI."""
    here = shop(code)
    ini = here / "uwsgi.ini"
    ini.write_text(f"[uwsgi]\nmodule = shop\nprocesses = 2\n{options}\n")
    with uwsgi("shop", workers=2, options={"pythonpath": here, "ini": ini}) as server:
        happened = shared(server)

    assert (expected, expected) == (said(from_file(str(ini))), happened)


@pytest.mark.parametrize(("more", "expected"), [(", pool_pre_ping=True", UNSAFE), (", poolclass=NullPool", SAFE)])
def test_of_an_engine_the_audit_says_what_happens(more, expected, shop):
    """So do the arguments of the engine."""
    here = shop("", more)
    ini = here / "uwsgi.ini"
    ini.write_text("[uwsgi]\nmodule = shop\nprocesses = 2\n")
    with uwsgi("shop", workers=2, options={"pythonpath": here, "ini": ini}) as server:
        happened = shared(server)

    assert (expected, expected) == (said(from_file(str(ini))), happened)


@pytest.mark.parametrize(
    ("conf", "code", "expected"),
    [
        ("preload_app = True\n", "", UNSAFE),
        ("preload_app = False\n", "", SAFE),
        ("preload_app = True\n\n\ndef post_fork(server, worker):\n    pass\n", "", UNSAFE),
        (
            "preload_app = True\n\n\ndef post_fork(server, worker):\n    from shop import engine\n\n"
            "    engine.dispose(close=False)\n",
            "",
            SAFE,
        ),
        ("from recipes.gunicorn_postfork import post_fork\n\npreload_app = True\n", GUNICORN_POSTFORK, SAFE),
        ("preload_app = True\n", HANDLER, SAFE),
    ],
)
def test_of_gunicorn_the_audit_says_what_happens(conf, code, expected, shop):
    """The configuration, and the module that it names, decide alike in the audit and in a real gunicorn."""
    here = shop(code)
    path = here / "gunicorn.conf.py"
    path.write_text(f"{conf}\nworkers = 2\nwsgi_app = 'shop:application'\n")
    with gunicorn("shop", workers=2, options={"chdir": here, "pythonpath": ROOT, "config": path}) as server:
        happened = shared(server)

    assert (expected, expected) == (said(from_file(str(path))), happened)


TASKS = """
from celery import Celery
from celery.signals import worker_process_init
from lab.brokers import celery_settings

app = Celery("shop")
app.conf.update(celery_settings(HERE))


@app.task(name="job")
def job(lap, nonce):
    (HERE / f"answer-{nonce}").write_text(ask())


"""
INIT = "@worker_process_init.connect(weak=False)\ndef forget(**_):\n    engine.dispose(close=False)\n"
RECIPE = "from recipes.celery_postfork import install\n\ninstall(engine)\n"


@pytest.mark.parametrize(("code", "expected"), [("", UNSAFE), (INIT, SAFE), (RECIPE, SAFE)])
def test_of_celery_the_audit_says_what_happens(code, expected, shop):
    """The module that the command line names decides alike in the audit and in a real worker."""
    here = shop(TASKS + code)
    command = ["celery", "-A", "shop", "--workdir", str(here), "worker", "--pool", "prefork", "-c", "2"]
    with folder() as home, kept([sys.executable, "-m", *command, "-l", "INFO"], home, name="Celery") as process:
        process.wait_for(lambda: " ready." in process.text(), "start")
        Celery(process, here).give("1", ["a", "b"])
        process.wait_for(lambda: len([p for p in here.glob("answer-*") if p.read_text()]) == 2, "two answers", 90)
    happened = _one_backend([path.read_text().split() for path in here.glob("answer-*")])

    assert (expected, expected) == (said(from_command(command)), happened)
