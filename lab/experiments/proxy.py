"""What uWSGI gains behind nginx, and whether its protocol has a part in that (U9).

CPU time decides, as other work on the machine hardly changes it; throughput is only told. Everything speaks over
loopback TCP, and nginx opens a new connection to the server for each request, as it does by default.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median

from lab import keeper, procfs
from lab.evidence import Effort, arm, experiment
from lab.nginx import Nginx, nginx, wrk
from lab.servers import Server, gunicorn, uwsgi
from lab.shapes import Arm, Check, Setup, Trial

APP = "lab.apps.hello"
WORKERS, CONNECTIONS, ROUNDS = 2, 8, 5


@dataclass(frozen=True)
class Pair:
    """The servers to compare, and where nginx finds them."""

    uwsgi: Server
    uwsgi_address: str
    http: Server
    http_address: str


@experiment("uwsgi-protocol-vs-http", seeds=("U9",), uses=("lab/apps/hello.py", "lab/nginx.py", "lab/procfs.py"))
def protocol_vs_http(effort: Effort) -> Iterator[Arm]:
    """``cpu_ratio``: the CPU time of a request in nginx and the server behind it, over HTTP against over uWSGI's own
    protocol. ``throughput_ratio``: how many times as many requests were served over uWSGI's own protocol."""
    alike = (Check("cpu_ratio", ">=", 0.8), Check("cpu_ratio", "<=", 1.25), Check("failed", "==", 0))
    dearer = (Check("cpu_ratio", ">=", 2), Check("failed", "==", 0))
    rows = (
        ("HTTP to gunicorn", "hazard", "gunicorn + uwsgi + nginx", dearer, _uwsgi_and_gunicorn, "/"),
        ("HTTP to the same uWSGI", "control", "uwsgi + nginx", alike, _one_uwsgi, "/"),
        ("HTTP to gunicorn, 2 ms of work", "control", "gunicorn + uwsgi + nginx", alike, _uwsgi_and_gunicorn, "/work"),
    )
    for name, role, server, checks, start, path in rows:
        setup = Setup(server=server, workers=WORKERS, concurrency=CONNECTIONS)
        yield arm(name, role, setup, checks, lambda start=start, path=path: _trials(effort, start, path))


@contextlib.contextmanager
def _one_uwsgi() -> Iterator[Pair]:
    options = {"uwsgi-socket": "127.0.0.1:0", "http-socket": "127.0.0.1:0"}
    with uwsgi(APP, workers=WORKERS, options=options) as server:
        own, http = re.findall(r"bound to TCP address (\S+)", server.process.text())
        yield Pair(server, own, server, http)


@contextlib.contextmanager
def _uwsgi_and_gunicorn() -> Iterator[Pair]:
    options = {"uwsgi-socket": "127.0.0.1:0"}
    with uwsgi(APP, workers=WORKERS, options=options) as one, gunicorn(APP, workers=WORKERS) as other:
        yield Pair(one, f"127.0.0.1:{one.port}", other, f"127.0.0.1:{other.port}")


def _trials(effort: Effort, start: Callable[[], AbstractContextManager[Pair]], path: str) -> Iterator[Trial]:
    cores = sorted(os.sched_getaffinity(0))
    for _ in range(effort.pick(record=3, gate=1)):
        # Where processes wander between cores, or the load runs among them, some requests cost twice what others do.
        with _on(cores[0]), start() as pair:
            targets = {"/uwsgi": f"uwsgi://{pair.uwsgi_address}", "/http": f"http://{pair.http_address}"}
            with nginx(targets) as proxy, _on(cores[-1]):
                yield _compare(pair, proxy, path)


def _compare(pair: Pair, proxy: Nginx, path: str) -> Trial:
    """Load both in turns, so that what else the machine does meets both, and take the medians."""
    cost, speed, failed = {"uwsgi": [], "http": []}, {"uwsgi": [], "http": []}, 0
    for _ in range(ROUNDS):
        for way, server in (("uwsgi", pair.uwsgi), ("http", pair.http)):
            before = _cpu_seconds(server, proxy)
            load = wrk(f"http://127.0.0.1:{proxy.port}/{way}{path}", seconds=1, connections=CONNECTIONS)
            cost[way].append((_cpu_seconds(server, proxy) - before) / load.requests)
            speed[way].append(load.requests / load.seconds)
            failed += load.failed
    return Trial(
        facts={
            "cpu_us_per_request_uwsgi": round(median(cost["uwsgi"]) * 1e6, 1),
            "cpu_us_per_request_http": round(median(cost["http"]) * 1e6, 1),
            "cpu_ratio": round(median(h / u for u, h in zip(cost["uwsgi"], cost["http"], strict=True)), 2),
            "throughput_ratio": round(median(u / h for u, h in zip(speed["uwsgi"], speed["http"], strict=True)), 2),
            "failed": failed,
        }
    )


def _cpu_seconds(*servers: Server | Nginx) -> float:
    return sum(procfs.cpu_seconds(pid) for server in servers for pid in keeper.descendants(server.process.keeper.pid))


@contextlib.contextmanager
def _on(core: int) -> Iterator[None]:
    """Have this thread, and whatever it starts, run on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
