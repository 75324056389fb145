"""The worst of the remedies and hazards once more, under a real uvicorn, with a client that resets its connection."""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import struct
from collections.abc import Callable, Iterator
from importlib.metadata import version

from sqlalchemy import create_engine

from lab import evidence
from lab.apps.asgi_pages import COMMENTS, DIRTY, OLD, fill
from lab.apps.asgi_ways import FASTAPI
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.asgi_requests import AFTER, PAGES, RECIPES, without_address
from lab.process import LabError, wait_until
from lab.shapes import Arm, Check, Setup, Trial
from lab.uvicorn import Uvicorn, uvicorn

APP = "lab.apps.asgi_served"
USES = [*PAGES, *RECIPES, "lab/apps/asgi_served.py", "lab/uvicorn.py"]
# Seconds within which what ends a transaction has ended it, once the request is over.
DEADLINE = 2.0
OPEN = "select count(*) from pg_stat_activity where client_port > 0 and state <> 'idle'"
GONE, STREAM, FAIL = "client gone in mid-stream", "stream, lazy load", "exception after a flush"
WORDS = {
    "none": {STREAM: "leaked", FAIL: "dirty", GONE: "leaked"},
    "with in the generator": {STREAM: "right", FAIL: "right", GONE: "leaked"},
    # The endless stream asks for its first part, with a session that has been closed.
    AFTER: {STREAM: "truncated", FAIL: "leaked", GONE: "leaked"},
    "yield, then close()": {STREAM: "right", FAIL: "leaked", GONE: "right"},
    'yield in with, scope="function"': {STREAM: "truncated", FAIL: "right", GONE: "leaked"},
}
PSYCOPG = ("with in the generator", "recipe asgi_session", "none", AFTER, *list(WORDS)[3:], "recipe fastapi_session")
# Where an asynchronous generator stands when it is cancelled is up to the moment: none of it here.
ASYNCPG = ("none", "recipe fastapi_session", "recipe asgi_session", "yield in with")
# So many clients leave one after the other.
LEAVE = 3
Seen = tuple[str, list[str]]


@experiment("asgi-client-gone-real", seeds=["I6"], uses=USES)
def client_gone_real(effort: Effort) -> Iterator[Arm]:
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database() -> Database:
            started = stack.enter_context(start("postgresql"))
            engine = create_engine(**arguments("psycopg", started))
            fill(engine)
            engine.dispose()
            return started

        for name, remedies in {"psycopg": PSYCOPG, "asyncpg": ASYNCPG}.items():
            for remedy in remedies if effort.name == "record" else remedies[:2]:
                words = WORDS.get(remedy, dict.fromkeys((STREAM, FAIL, GONE), "right"))
                if effort.name == "gate" or name == "asyncpg":
                    words = {GONE: words[GONE]}
                framework = "FastAPI" if remedy in FASTAPI else "Starlette"
                setup = Setup("postgresql", name, server="uvicorn", remedy=remedy, framework=framework)
                role = "hazard" if remedy in WORDS else "remedy"
                checks = [Check(row, "==", word) for row, word in words.items()]
                run = functools.partial(_trials, database, name, remedy, list(words))
                yield arm(f"{name}, {remedy}", role, setup, checks, run)


def _trials(database: Callable[[], Database], name: str, remedy: str, rows: list[str]) -> Iterator[Trial]:
    for framework in "FastAPI", "Starlette":
        evidence.saw(framework, version(framework.lower()))
    facts: dict[str, object] = {"says": (says := {})}
    for row in rows:
        facts[row], says[row] = _play(database(), name, remedy, row)
    yield Trial(facts=facts)


def _play(database: Database, name: str, remedy: str, row: str) -> Seen:
    """One hazard, on a server of its own: the word for it, and what there is to say."""
    settings = {"engine": arguments(name, database), "loop": driver(name).loop, "remedy": remedy}
    with uvicorn(APP, settings=settings) as server:
        word, says = {GONE: _leave, STREAM: _stream, FAIL: _fail}[row](database, server)
        if word == "right" and (left := _left_open(database)):
            word, says = "leaked", [*says, f"transactions open {DEADLINE:g} s after the request: {left}"]
    wait_until(lambda: not database.sessions(), "the end of the server's connections")
    database.ask(f"update page set body = '{OLD}'")
    return word, says


def _leave(database: Database, server: Uvicorn) -> Seen:
    """Take the first part of an endless stream and reset the connection, so that no word of parting is sent."""
    for left in range(LEAVE):
        _reset(server)
        _wait_for_the_end(server, left + 1)
    return "right", []


def _reset(server: Uvicorn) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /endless HTTP/1.1\r\nHost: lab\r\n\r\n")
        got = b""
        while OLD.encode() not in got.partition(b"\r\n\r\n")[2]:
            if not (part := client.recv(65536)):
                raise LabError(f"the stream ended before it began: {got!r}")
            got += part
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _stream(database: Database, server: Uvicorn) -> Seen:
    whole = OLD + "".join(COMMENTS)
    try:
        got = _get(server, "GET", "/stream")[1]
    except (http.client.HTTPException, OSError) as problem:
        got = ""
        says = [f"the client: {type(problem).__name__}: {problem}"]
    else:
        says = [f"the client has {got!r}"]
    _wait_for_the_end(server, 1)
    errors = [line for line in server.process.text().splitlines() if line.startswith("sqlalchemy.")]
    return "right" if got == whole else "truncated", [*says, *map(without_address, errors[-1:])]


def _fail(database: Database, server: Uvicorn) -> Seen:
    status = _get(server, "GET", "/fail")[0]
    after = _get(server, "POST", "/next")[0]
    _wait_for_the_end(server, 2)
    says = [f"the request: {status}; the next one: {after}"]
    if database.ask("select body from page")[0][0] == DIRTY:
        return "dirty", [*says, "the next request's commit writes what this one had flushed"]
    return "right", says


def _get(server: Uvicorn, method: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.read().decode()


def _wait_for_the_end(server: Uvicorn, count: int) -> None:
    server.process.wait_for(lambda: len(server.report("over")) >= count, "the end of the request")


def _left_open(database: Database) -> int:
    """Transactions that the server sees, if they do not end within the deadline."""
    with contextlib.suppress(LabError):
        wait_until(lambda: not database.ask(OPEN)[0][0], "the end of all transactions", DEADLINE)
    return database.ask(OPEN)[0][0]
