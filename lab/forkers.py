"""Whoever forks: each is one row. A new one is one row, and a class if it is given its jobs in a way of its own.

All of them run the application of :mod:`lab.apps.forked`: they import it and do its jobs, in children if they have any.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lab import servers
from lab.brokers import celery_settings, deliver, redis
from lab.evidence import saw
from lab.process import Kept, folder, kept, wait_until

CHILDREN = 2
WEB = "lab.apps.forked_web"
# What every program that the lab starts here reads its settings from.
SETTINGS = "LAB_APP"
SOURCES = (
    *("lab/forkers.py", "lab/forklife.py", "lab/brokers.py", "lab/apps/forked.py", "lab/apps/forked_program.py"),
    *("lab/apps/forked_web.py", "lab/apps/forked_gunicorn.py", "lab/apps/forked_celery.py", "lab/apps/forked_rq.py"),
)


@dataclass(frozen=True)
class Running:
    """A forker at work. ``home`` is its private folder, with the application's report."""

    process: Kept
    home: Path

    def give(self, lap: str, nonces: Sequence[str]) -> None:
        """Hand in one job for each of *nonces*, and do not wait for them."""
        raise NotImplementedError

    def replace(self) -> None:
        """Have the children replaced, where that does not happen by itself."""

    def stop(self) -> None:
        """Ask it to end in the ordinary way, and wait for that."""
        os.kill(self.process.pid, signal.SIGTERM)
        self.wait_for_the_end()

    def wait_for_the_end(self) -> None:
        wait_until(lambda: not self.process.running, f"the end of {self.process.name}", 30)

    def report(self, event: str = "") -> list[dict[str, Any]]:
        """What the application noted, all of it or one kind of event."""
        path = self.home / "report"
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for row in map(json.loads, lines) if row["event"] == (event or row["event"])]


@dataclass(frozen=True)
class Program(Running):
    """:mod:`lab.apps.forked_program`."""

    orders: int

    def give(self, lap: str, nonces: Sequence[str]) -> None:
        os.write(self.orders, json.dumps([(lap, nonce) for nonce in nonces]).encode() + b"\n")

    def stop(self) -> None:
        os.close(self.orders)
        self.wait_for_the_end()


@dataclass(frozen=True)
class Web(Running):
    """gunicorn or uWSGI."""

    server: servers.Server
    recycles: bool = False
    quit: signal.Signals = signal.SIGTERM

    def give(self, lap: str, nonces: Sequence[str]) -> None:
        for nonce in nonces:
            url = f"http://127.0.0.1:{self.server.port}/?{urlencode({'lap': lap, 'nonce': nonce})}"
            threading.Thread(target=_get, args=[url], daemon=True).start()

    def replace(self) -> None:
        # Not those that wait for requests: one may still be busy with its answer.
        done = [row["pid"] for row in self.report("job")]
        for pid in () if self.recycles else done:
            os.kill(pid, signal.SIGKILL)
        self.server.wait_for_workers(CHILDREN, other_than=done)

    def stop(self) -> None:
        os.kill(self.process.pid, self.quit)
        self.wait_for_the_end()


@dataclass(frozen=True)
class Celery(Running):
    def give(self, lap: str, nonces: Sequence[str]) -> None:
        from celery import Celery as App

        with App("producer", set_as_current=False) as app:
            app.conf.update(celery_settings(self.home, "sent"))
            for nonce in nonces:
                app.send_task("job", args=[lap, nonce])
        deliver(self.home, "sent")


@dataclass(frozen=True)
class Rq(Running):
    def give(self, lap: str, nonces: Sequence[str]) -> None:
        from redis import Redis
        from rq import Queue

        with Redis(unix_socket_path=str(self.home / "redis")) as connection:
            for nonce in nonces:
                Queue("jobs", connection=connection).enqueue("lab.apps.forked.job", lap, nonce)


@dataclass(frozen=True)
class Forker:
    """One row.

    Attributes:
        name: what the site calls it, and ``Setup.server``.
        start: runs it with the application's settings.
        abreast: how many processes have a job at a time.
        distribution: whose version is noted under the name.
    """

    name: str
    start: Callable[[Mapping[str, Any]], AbstractContextManager[Running]]
    abreast: int = CHILDREN
    distribution: str = ""

    @contextlib.contextmanager
    def run(self, settings: Mapping[str, Any]) -> Iterator[Running]:
        """Start it with *settings* for the application, ready for jobs."""
        if self.distribution:
            saw(self.name, importlib.metadata.version(self.distribution))
        with self.start({"abreast": self.abreast, **settings}) as running:
            yield running


@contextlib.contextmanager
def _program(*arguments: str, settings: Mapping[str, Any]) -> Iterator[Program]:
    with folder() as home:
        os.mkfifo(home / "orders")
        command = [sys.executable, "-m", "lab.apps.forked_program", *arguments]
        with kept(command, home, name=arguments[0], env=_told(settings, home)) as process:
            # For reading too, or it would wait here for a program that may have died.
            orders = os.open(home / "orders", os.O_RDWR)
            running = Program(process, home, orders)
            try:
                process.wait_for(lambda: running.report("ready"), "start")
                yield running
            finally:
                with contextlib.suppress(OSError):
                    os.close(orders)


@contextlib.contextmanager
def _gunicorn(*, settings: Mapping[str, Any], **options: Any) -> Iterator[Web]:
    options = {"config": "python:lab.apps.forked_gunicorn", **options}
    with servers.gunicorn(WEB, workers=CHILDREN, settings=settings, options=options) as server:
        yield Web(server.process, server.home, server, "max-requests" in options)


@contextlib.contextmanager
def _uwsgi(settings: Mapping[str, Any]) -> Iterator[Web]:
    with servers.uwsgi(WEB, workers=CHILDREN, settings=settings) as server:
        yield Web(server.process, server.home, server, quit=signal.SIGINT)


@contextlib.contextmanager
def _celery(pool: str, *options: str, settings: Mapping[str, Any]) -> Iterator[Celery]:
    with folder() as home:
        command = [sys.executable, "-m", "celery", "-A", "lab.apps.forked_celery", "worker", "--pool", pool]
        command += ["--concurrency", str(CHILDREN), "--loglevel", "INFO", *options]
        with kept(command, home, name="Celery", env=_told(settings, home)) as process:
            process.wait_for(lambda: " ready." in process.text(), "start")
            yield Celery(process, home)


@contextlib.contextmanager
def _rq(*command: str | Path, settings: Mapping[str, Any]) -> Iterator[Rq]:
    with folder() as home, redis(home) as socket:
        last = ["--url", f"unix://{socket}", "jobs"] if "worker" in command else []
        with kept([*command, *last], home, name="RQ", env=_told(settings, home)) as process:
            process.wait_for(lambda: "Listening on" in process.text(), "start")
            yield Rq(process, home)


def _told(settings: Mapping[str, Any], home: Path) -> dict[str, str]:
    return {SETTINGS: json.dumps({**settings, "home": str(home)})}


def _get(url: str) -> None:
    # A worker that leaves may reset the connection; what it did is in the report.
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=60).close()


def _at(function: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[Mapping[str, Any]], Any]:
    return lambda settings: function(*arguments, settings=settings, **options)


_RQ_SCRIPT = (sys.executable, "-m", "lab.apps.forked_rq")
FORKERS = {
    row.name: row
    for row in (
        Forker("os.fork", _at(_program, "os.fork")),
        Forker("Process, fork", _at(_program, "Process", "fork")),
        Forker("Pool, fork", _at(_program, "Pool", "fork")),
        Forker("ProcessPoolExecutor, fork", _at(_program, "executor", "fork")),
        Forker("Process, forkserver", _at(_program, "Process", "forkserver")),
        Forker("Process, forkserver that preloads", _at(_program, "Process", "forkserver", "lab.apps.forked")),
        Forker("Pool, forkserver", _at(_program, "Pool", "forkserver")),
        Forker("ProcessPoolExecutor, forkserver", _at(_program, "executor", "forkserver")),
        Forker("Process, spawn", _at(_program, "Process", "spawn")),
        Forker("Pool, spawn", _at(_program, "Pool", "spawn")),
        Forker("ProcessPoolExecutor, spawn", _at(_program, "executor", "spawn")),
        Forker("gunicorn", _at(_gunicorn)),
        Forker("gunicorn --preload", _at(_gunicorn, preload=True), distribution="gunicorn"),
        Forker("gunicorn --preload --max-requests", _at(_gunicorn, preload=True, **{"max-requests": 1})),
        Forker("uwsgi", partial(_uwsgi)),
        Forker("Celery prefork", _at(_celery, "prefork", "--max-tasks-per-child", "1"), distribution="celery"),
        Forker("Celery threads", _at(_celery, "threads"), abreast=1),
        Forker("Celery gevent", _at(_celery, "gevent"), abreast=1),
        Forker("Celery solo", _at(_celery, "solo"), abreast=1),
        Forker("RQ Worker", _at(_rq, *_RQ_SCRIPT, "Worker"), abreast=1, distribution="rq"),
        Forker("rq worker", _at(_rq, servers.BIN / "rq", "worker"), abreast=1),
        Forker("RQ SpawnWorker", _at(_rq, *_RQ_SCRIPT, "SpawnWorker"), abreast=1),
        Forker("RQ SimpleWorker", _at(_rq, *_RQ_SCRIPT, "SimpleWorker"), abreast=1),
        Forker("APScheduler processes, fork", _at(_program, "scheduler", "fork"), distribution="APScheduler"),
        Forker("APScheduler processes", _at(_program, "scheduler", "")),
        Forker("APScheduler threads", _at(_program, "scheduler", "threads"), abreast=1),
    )
}
