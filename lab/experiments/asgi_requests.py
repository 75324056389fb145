"""Remedy by hazard for ASGI: what becomes of a request's Session, and of its client's answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab import evidence
from lab.apps.asgi_ways import FASTAPI, STARLETTE
from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.asgi_client import HAZARDS, ONLY_FASTAPI, ONLY_IN_LOOP
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

SCENE, THREADS = "lab.scenes.asgi_requests", "lab.scenes.asgi_threads"
PAGES = ["lab/apps/asgi_pages.py", "lab/apps/asgi_async_pages.py", "lab/apps/asgi_ways.py", "lab/apps/asgi_app.py"]
RECIPES = ["recipes/asgi_session.py", "recipes/fastapi_session.py"]
USES = [*PAGES, *RECIPES, "lab/scenes/asgi_client.py", "lab/scenes/asgi_requests.py"]
DRIVERS = ("sqlite", "psycopg", "psycopg async", "asyncpg")
AT_THE_GATE = ("sqlite", "asyncpg")
# With which the scene looks after the database itself.
PLAIN = {"sqlite": "sqlite", "postgresql": "psycopg"}
RECIPE = "recipe asgi_session"
AFTER, AROUND = "remove() after call_next", "call_next in try, finally remove()"
EXCEPTIONS = ("exception after a flush", "HTTPException after a flush", "exception in mid-stream")
GONE = "client gone in mid-stream, http.disconnect"


@experiment("asgi-middleware-right", seeds=["I5", "I6", "I7"], uses=USES)
def middleware_right(effort: Effort) -> Iterator[Arm]:
    for name in drivers(effort):
        words = {"plain": "leaked", "stream, lazy load": "leaked", GONE: "leaked"}
        words |= dict.fromkeys(EXCEPTIONS, "dirty")
        yield requests(effort, name, "none", "hazard", words)
        yield requests(effort, name, RECIPE, "remedy", all_right(name, RECIPE))


@experiment("asgi-base-http-middleware", seeds=["I6", "I7"], uses=USES)
def base_http_middleware(effort: Effort) -> Iterator[Arm]:
    streams = {"stream, lazy load": "truncated", "stream, query": "leaked", "HEAD": "error"}
    late = {"background task, lazy load": "error", "background task, query": "leaked"}
    fine = {"plain": "right", "HTTPException after a flush": "right", "exception in mid-stream": "right", GONE: "right"}
    for name in drivers(effort):
        words = {**streams, **late, **fine}
        failed = {"exception after a flush": "leaked", "exception in another middleware": "leaked"}
        yield requests(effort, name, AFTER, "hazard", {**words, **failed})
        yield requests(effort, name, AROUND, "hazard", {**words, **dict.fromkeys(failed, "right")})
        yield requests(effort, name, RECIPE, "remedy", dict.fromkeys({**words, **failed}, "right"))


@experiment("asgi-with-in-the-endpoint", seeds=["I7"], uses=USES)
def with_in_the_endpoint(effort: Effort) -> Iterator[Arm]:
    late = {"background task, lazy load": "error", "background task, query": "leaked"}
    ended = {"stream, lazy load": "truncated", "stream, query": "leaked", "HEAD": "error", **late}
    for name in drivers(effort):
        without = {**ended, "exception after a flush": "leaked", "HTTPException after a flush": "leaked"}
        yield requests(effort, name, "close() in the endpoint", "hazard", without)
        yield requests(effort, name, "with in the endpoint", "hazard", {**ended, **dict.fromkeys(EXCEPTIONS, "right")})
        whole = dict.fromkeys(("stream, lazy load", "stream, query", "HEAD", *EXCEPTIONS), "right")
        yield requests(effort, name, "with in the generator", "hazard", {**whole, **late, GONE: "leaked"})
        yield requests(effort, name, RECIPE, "remedy", dict.fromkeys({**without, **whole, GONE: ""}, "right"))


@experiment("asgi-cancelled-request", seeds=["T5"], uses=USES)
def cancelled_request(effort: Effort) -> Iterator[Arm]:
    between, within = "cancelled between queries", "cancelled in a query"
    for name in drivers(effort):
        if driver(name).loop:
            yield requests(effort, name, "none", "hazard", {between: "leaked", within: "error"})
            yield requests(effort, name, "yield, then close()", "hazard", {between: "leaked", within: "right"})
            yield requests(effort, name, AFTER, "hazard", {between: "leaked", within: "leaked"})
            for remedy in (RECIPE, "yield in with", "recipe fastapi_session"):
                yield requests(effort, name, remedy, "remedy", {between: "right", within: "right"})


@experiment("asgi-remove-in-another-thread", seeds=["T4", "I5"], uses=[*USES, "lab/scenes/asgi_threads.py"])
def remove_in_another_thread(effort: Effort) -> Iterator[Arm]:
    """Facts: how many of the five Sessions the middleware ``removed``, connections ``out`` after five requests, how
    many ``threads`` served them, whether ``in_loop``; whether failed and next request had the ``same_thread``.
    """
    removing = "remove() in the event loop"
    elsewhere = [Check("threads", "==", 5), Check("in_loop", "==", False), Check("same_thread", "==", True)]
    for name in ("sqlite", "psycopg") if effort.name == "record" else ("sqlite",):
        run = functools.partial(_threads, name, effort.pick(5, 1))
        bad = [Check("removed", "==", 0), Check("out", "==", 5), *_words({"plain": "leaked", EXCEPTIONS[0]: "dirty"})]
        good = [Check("out", "==", 0), *_words({"plain": "right", EXCEPTIONS[0]: "right"})]
        setup = functools.partial(Setup, driver(name).database, name, framework="Starlette")
        it = setup(remedy=removing, request="def endpoints")
        yield arm(f"{name}, def", "hazard", it, [*bad, *elsewhere], functools.partial(run, removing, "def"))
        it = setup(remedy=removing, request="async def endpoints")
        checks = [*good, Check("in_loop", "==", True), Check("removed", ">=", 1)]
        yield arm(f"{name}, async def", "control", it, checks, functools.partial(run, removing, "async def"))
        it = setup(remedy=RECIPE, request="def endpoints")
        yield arm(f"{name}, recipe", "remedy", it, [*good, *elsewhere], functools.partial(run, RECIPE, "def"))


def drivers(effort: Effort) -> Sequence[str]:
    return DRIVERS if effort.name == "record" else AT_THE_GATE


def rows(name: str, remedy: str) -> list[str]:
    """The hazards that a driver and a remedy can meet."""
    left_out = () if remedy in FASTAPI else ONLY_FASTAPI
    left_out += () if driver(name).loop else ONLY_IN_LOOP
    return [row for row in HAZARDS if row not in left_out]


def all_right(name: str, remedy: str) -> dict[str, str]:
    return dict.fromkeys(rows(name, remedy), "right")


def requests(effort: Effort, name: str, remedy: str, role: Role, words: Mapping[str, str]) -> Arm:
    """The arm of one remedy with one driver, of which *words* are expected, by hazard."""
    framework = "FastAPI" if remedy in FASTAPI else "Starlette"
    setup = Setup(driver(name).database, name, remedy=remedy, framework=framework)
    words = {row: word for row, word in words.items() if row in rows(name, remedy)}

    def run() -> list[Trial]:
        return [_trial(found) for found in _told(name, effort.pick(2, 1))[remedy]]

    return arm(f"{name}, {framework}, {remedy}", role, setup, _words(words), run)


def _words(words: Mapping[str, str]) -> list[Check]:
    return [Check(row, "==", word) for row, word in words.items()]


@functools.cache
def _told(name: str, trials: int) -> dict[str, list[dict[str, Any]]]:
    """What became of all hazards with all remedies: one run, on which all claims rest."""
    row = driver(name)
    with start(row.database) as database:
        engine, plain = arguments(name, database), arguments(PLAIN[row.database], database)
        how = {"engine": engine, "plain": plain, "loop": row.loop, "remedies": [*STARLETTE, *FASTAPI]}
        got = play(SCENE, patience=300, **how, trials=trials)
    for framework, version in got["versions"].items():
        evidence.saw(framework, version)
    return got["told"]


def _trial(found: Mapping[str, Mapping[str, Any]]) -> Trial:
    words = {row: seen["word"] for row, seen in found.items()}
    kinds = {"right": "right", "hung": "hung", "error": "error"}
    tally = Tally.of(
        Outcome(kind := kinds.get(word, "wrong"), without_address(found[row]["raised"]) if kind == "error" else "")
        for row, word in words.items()
    )
    return Trial(tally, facts={**words, "says": {row: list(_says(seen)) for row, seen in found.items()}})


def _says(seen: Mapping[str, Any]) -> Iterator[str]:
    if seen["word"] == "truncated" and seen["whole"]:
        yield f"the client has {seen['got']!r}, and the response ends as a whole one does"
    if seen["raised"]:
        yield without_address(seen["raised"])
    if seen["out"]:
        when = "the garbage collector ends it" if seen["collected"] else "a garbage collection does not end it"
        yield f"connections checked out: {seen['out']}; {when}"
    elif seen["open"]:
        yield "the connection is back, and the server goes on with the query"
    if seen["dirty"]:
        yield "the next request's commit writes what this one had flushed"
    if seen["refused"]:
        yield f"the next request: {without_address(seen['refused'])}"


def without_address(message: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", message)


def _threads(name: str, trials: int, remedy: str, endpoints: str) -> Iterator[Trial]:
    for _ in range(trials):
        with start(driver(name).database) as database:
            found = play(THREADS, engine=arguments(name, database), remedy=remedy, endpoints=endpoints)
        evidence.saw("Starlette", found["version"])
        facts = {key: found[key] for key in ("removed", "out", "threads", "in_loop", "same_thread")}
        facts |= {"plain": "leaked" if found["out"] else "right"}
        yield Trial(facts={**facts, EXCEPTIONS[0]: "dirty" if found["dirty"] else "right"})
