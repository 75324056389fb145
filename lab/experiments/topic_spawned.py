"""Servers with several processes: which of them hand the connection that the import opened to their workers?"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from lab import drivers, evidence, load, trials
from lab.databases import free_port, start
from lab.evidence import Effort, arm, experiment
from lab.process import folder, kept
from lab.servers import BIN, Gunicorn, Server, gunicorn
from lab.shapes import Arm, Check, Role, Setup, Trial

ASGI, WSGI = "lab.apps.topic_spawned", "lab.apps.prefork"
WORKERS, REQUESTS = 2, 400


@experiment("servers-that-spawn-import-in-each", uses=(*trials.SOURCES, "lab/apps/topic_spawned.py"))
def servers_that_spawn(effort: Effort) -> Iterator[Arm]:
    """Facts: ``imports``, how many processes imported the application; ``workers``, how many answered; ``inherited``,
    how many of them did so over a connection that another process had opened."""
    apart = [Check("imports", "==", WORKERS), Check("workers", "==", WORKERS), Check("inherited", "==", 0)]
    shared = [Check("imports", "==", 1), Check("workers", "==", WORKERS), Check("inherited", "==", WORKERS)]
    yield _arm("gunicorn --preload", "none", "hazard", shared, effort)
    yield _arm("gunicorn", "none", "control", apart, effort)
    yield _arm("uvicorn", "none", "control", apart, effort)
    yield _arm("granian", "none", "control", apart, effort)
    cured = [Check("imports", "==", 1), Check("workers", "==", WORKERS), Check("inherited", "==", 0)]
    yield _arm("gunicorn --preload", "recipe fork_safe_engine", "remedy", cured, effort)


def _arm(server: str, remedy: str, role: Role, checks: list[Check], effort: Effort) -> Arm:
    def run() -> Iterator[Trial]:
        with start("postgresql") as database:
            for _ in range(effort.pick(3, 1)):
                engine = drivers.arguments("psycopg2", database)
                settings = {"engine": engine, "database": "postgresql", "remedy": remedy}
                with _serve(server, settings) as running:
                    yield _trial(running)

    setup = Setup("postgresql", "psycopg2", server=server, workers=WORKERS, remedy="" if remedy == "none" else remedy)
    return arm(", ".join(filter(None, [server, setup.remedy])), role, setup, checks, run)


def _serve(server: str, settings: Mapping[str, Any]) -> contextlib.AbstractContextManager[Server]:
    if server.startswith("gunicorn"):
        options = {"preload": True} if server.endswith("--preload") else {}
        return gunicorn(WSGI, workers=WORKERS, settings=settings, options=options)
    return _spawning(server, settings)


@contextlib.contextmanager
def _spawning(name: str, settings: Mapping[str, Any]) -> Iterator[Server]:
    with folder() as home:
        env = {"LAB_APP": json.dumps({**settings, "home": str(home), "workers": WORKERS})}
        port, app = free_port(), f"{ASGI}:application"
        program: dict[str, list[str | Path]] = {
            "uvicorn": [sys.executable, "-m", "uvicorn"],
            "granian": [BIN / "granian", "--interface", "asgi"],
        }
        command = [*program[name], "--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS), app]
        with kept(command, home, name=name, env=env) as process:
            server = Server(process, port, home)
            process.wait_for(lambda: len(server.report("import")) >= WORKERS, "imports", 90)
            process.wait_for(lambda: load.request(port).outcome.kind == "right", "an answer", 60)
            evidence.saw(name, metadata.version(name))
            yield server


def _trial(server: Server) -> Trial:
    if isinstance(server, Gunicorn):
        # One after the other: what two of them ask at once over one connection is not answered right.
        answers = load.roll_call(server.port, WORKERS)
    else:
        answers = []
        while len({answer.pid for answer in answers}) < WORKERS and len(answers) < REQUESTS:
            answers += load.fire(server.port, 2 * WORKERS, concurrency=2 * WORKERS, deadline=20)
    opened = {row["backend"]: row["pid"] for row in server.report("import")}
    over_others = {answer.pid for answer in answers if opened.get(answer.backend, answer.pid) != answer.pid}
    facts = {
        "imports": len({row["pid"] for row in server.report("import")}),
        "workers": len({answer.pid for answer in answers}),
        "inherited": len(over_others),
    }
    return Trial(load.tally(answers), facts=facts)
