"""Do servers call ``close()``? And what the source's middleware does on the server that it was written for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from lab import client
from lab.apps.streamed import BLOCKS
from lab.databases import Database, start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.pages import CHANGED, OPEN, STORED, WHOLE, Truth, same
from lab.process import LabError, wait_until
from lab.scopes import FINALLY, RECIPE, RECIPE_UNCLOSED, SOURCE
from lab.servers import Server
from lab.shapes import Arm, Check, Setup, Trial
from lab.wsgi_servers import SERVERS, serve

APP = "lab.apps.streamed"
USES = [
    "lab/apps/streamed.py",
    "lab/apps/serve.py",
    "lab/client.py",
    "lab/pages.py",
    "lab/scopes.py",
    "lab/wsgi_servers.py",
    "recipes/wsgi_session.py",
]
DRIVER = "psycopg2"
# What a client does, and the path that it asks for.
REQUESTS: dict[str, tuple[str, Callable[[int, str], Any]]] = {
    "HEAD": ("/streamed", functools.partial(client.request, method="HEAD")),
    "exception in mid-stream": ("/fails-later", client.request),
    "client gone in mid-stream": ("/endless", client.leave),
}
# What the gate has time for.
SOME = (("apache + mod_wsgi", "daemon"), ("gunicorn", "gthread"), ("uwsgi", ""), ("waitress", ""))
STREAM, EXCEPTION = "lazy stream", "exception before the body"


@experiment("wsgi-servers-call-close", seeds=["I6"], uses=USES)
def call_close(effort: Effort) -> Iterator[Arm]:
    """Facts, for each request: whether it left a transaction open, and whether ``close()`` was called on the body."""
    called = [Check(f"close() after {name}", "==", "called") for name in REQUESTS]
    noticed = Check("client gone before the end", "==", True)
    with _database() as database:
        for server, mode in SERVERS if effort.name == "record" else SOME:
            it = functools.partial(Setup, "postgresql", DRIVER, server=server, mode=mode, workers=1)
            title = f"{server}, {mode}" if mode else server
            for remedy, role, checks in (
                (RECIPE_UNCLOSED, "hazard", [Check("client gone in mid-stream", "==", "leaked"), noticed]),
                (RECIPE, "remedy", [*(Check(name, "==", "right") for name in REQUESTS), *called, noticed]),
            ):
                run = functools.partial(_requests, database, server, mode, remedy, effort.pick(3, 1))
                yield arm(f"{title}: {remedy}", role, it(remedy=remedy), checks, run)


@experiment("wsgi-worst-on-apache", seeds=["I6", "I7"], uses=USES)
def on_apache(effort: Effort) -> Iterator[Arm]:
    """Facts: the two outcomes; what a client of the stream got, and could notice; what the next request read."""
    cut = [Check("status", "==", 200), Check("body", "==", STORED), Check("the client noticed", "==", "nothing")]
    whole = [Check("status", "==", 200), Check("body", "==", WHOLE)]
    expected = {
        SOURCE: ("hazard", [*cut, Check(STREAM, "==", "truncated"), Check(EXCEPTION, "==", "dirty")]),
        FINALLY: ("hazard", [*cut, Check(STREAM, "==", "truncated"), Check(EXCEPTION, "==", "right")]),
        RECIPE: ("remedy", [*whole, Check(STREAM, "==", "right"), Check(EXCEPTION, "==", "right")]),
    }
    where = {"server": "apache + mod_wsgi", "mode": "daemon", "workers": 1, "threads": 1}
    with _database() as database:
        for remedy, (role, checks) in expected.items():
            it = Setup("postgresql", DRIVER, remedy=remedy, **where)
            run = functools.partial(_worst, database, remedy, effort.pick(5, 1))
            yield arm(remedy, role, it, checks, run)


@contextlib.contextmanager
def _database() -> Iterator[Callable[[], Database]]:
    # Started by the first arm that needs it, so that each can say for itself what is missing.
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda: stack.enter_context(start("postgresql")))


@contextlib.contextmanager
def _served(database: Database, server: str, mode: str, remedy: str) -> Iterator[Server]:
    engine = arguments(DRIVER, database)
    Truth(engine, database.kind).rewind()
    with serve(server, mode, APP, {"engine": engine, "remedy": remedy}) as running:
        yield running
    # The next trial's tables must not be locked by what this one leaked.
    wait_until(lambda: not database.sessions(), "the server's connections are gone")


def _requests(database: Callable[[], Database], server: str, mode: str, remedy: str, count: int) -> Iterator[Trial]:
    for _ in range(count):
        with _served(database(), server, mode, remedy) as running:
            facts: dict[str, Any] = {}
            for name, (path, ask) in REQUESTS.items():
                facts |= _request(database(), running, name, path, ask)
            yield Trial(facts=facts)


def _request(database: Database, server: Server, name: str, path: str, ask: Callable[..., Any]) -> dict[str, Any]:
    before = _open(database)
    ask(server.port, path)

    def closed() -> dict[str, Any] | None:
        return next((row for row in server.report("close") if row["path"] == path), None)

    with contextlib.suppress(LabError):
        wait_until(closed, "close()", 15)
    seen = closed()
    facts = {
        name: "leaked" if _open(database) > before else "right",
        f"close() after {name}": "called" if seen else "not called",
    }
    if seen and name == "HEAD":
        facts["HEAD is iterated"] = seen["end"] or f"not to the end, chunks: {seen['chunks']}"
    if name.startswith("client gone"):
        facts["client gone before the end"] = bool(seen) and seen["chunks"] < BLOCKS
    return facts


def _open(database: Database) -> int:
    return database.ask(OPEN["postgresql"])[0][0]


def _worst(database: Callable[[], Database], remedy: str, count: int) -> Iterator[Trial]:
    for _ in range(count):
        with _served(database(), "apache + mod_wsgi", "daemon", remedy) as running:
            stream = client.request(running.port, "/streamed")
            failed = client.request(running.port, "/fails")
            after = client.request(running.port, "/touch")
            ((stored,),) = database().ask("select body from page where id = 1")
            log = running.process.text()
            body = stream.body.decode()
            says = [same(line.split("] ")[-1]) for line in log.splitlines() if "DetachedInstanceError: " in line]
            yield Trial(
                facts={
                    STREAM: "right" if body == WHOLE else "truncated",
                    EXCEPTION: "dirty" if stored == CHANGED else "right",
                    "status": stream.status,
                    "body": body,
                    "the client noticed": stream.error or "nothing",
                    "the failed request": failed.status,
                    "the next request read": after.body.decode(),
                    "the database holds": stored,
                    "says": {STREAM: says[:1]},
                }
            )
