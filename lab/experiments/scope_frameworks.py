"""Whose a Session is, when the framework changes threads or contexts within a request: FastAPI and Flask."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from lab import evidence
from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes import scope_hop, scope_nested
from lab.shapes import Arm, Check, Role, Setup, Trial

DRIVERS = ("psycopg", "PyMySQL")
HOP = [
    "lab/pages.py",
    "lab/scenes/scope_hop.py",
    "lab/scenes/asgi_client.py",
    "recipes/fastapi_session.py",
    "recipes/scoped_registry.py",
]
NESTED = ["lab/pages.py", "lab/wsgi.py", "lab/scenes/scope_nested.py", "recipes/flask_session.py"]
SEEN, KEPT, OUT = "what the endpoint sees", "the dependency's change", "its connection"
BUSY, ALONE = "another request takes the thread", "alone"


@experiment("scope-fastapi-thread-hop", seeds=["T4"], uses=HOP)
def hop(effort: Effort) -> Iterator[Arm]:
    """Facts: words by row; whether the endpoint ran in "another thread", because "the thread was taken"."""
    right = dict.fromkeys((SEEN, KEPT, OUT), "right")
    wrong = {SEEN: "old", KEPT: "lost", OUT: "leaked"}
    told = {SEEN: "error", KEPT: "lost", OUT: "right"}
    expected: dict[tuple[str, str], tuple[Role, dict[str, str]]] = {
        (scope_hop.BY_THREAD, BUSY): ("hazard", wrong),
        (scope_hop.BY_THREAD, ALONE): ("control", right),
        # A control of another kind: it says so, whoever has the thread.
        (scope_hop.REGISTRY, BUSY): ("control", told),
        (scope_hop.REGISTRY, ALONE): ("control", told),
        (scope_hop.PASSED, BUSY): ("remedy", right),
        (scope_hop.RECIPE, BUSY): ("remedy", right),
    }
    for name in DRIVERS[: effort.pick(2, 1)]:
        for (remedy, when), (role, words) in expected.items():
            moved = {"another thread": when == BUSY, "the thread was taken": when == BUSY}
            checks = [Check(row, "==", value) for row, value in {**words, **moved}.items()]
            run = functools.partial(_hops, name, effort.pick(5, 1), remedy, "busy" if when == BUSY else "alone")
            it = Setup(driver(name).database, name, moment=when, framework="FastAPI", scope=remedy)
            yield arm(f"{remedy}, {when}, {name}", role, it, checks, run)


def _hops(name: str, trials: int, remedy: str, when: str) -> list[Trial]:
    return [Trial(facts=got[remedy][when]) for got in _hopped(name, trials)]


@functools.cache
def _hopped(name: str, trials: int) -> list[dict[str, Any]]:
    told = []
    with start(driver(name).database) as database:
        for _ in range(trials):
            how = {"arguments": arguments(name, database), "database": database.kind}
            got = play("lab.scenes.scope_hop", remedies=scope_hop.REMEDIES, **how)
            evidence.saw("FastAPI", got["version"])
            told.append(got["told"])
    return told


@experiment("scope-nested-context-other-session", uses=NESTED)
def other_session(effort: Effort) -> Iterator[Arm]:
    rows = {scope_nested.SEES: "old", scope_nested.ADDS: "error"}
    fine = {scope_nested.SEES: "new", scope_nested.ADDS: "right"}
    for name in DRIVERS[: effort.pick(2, 1)]:
        yield _nested(effort, name, scope_nested.DB_SESSION, scope_nested.NESTED, "hazard", rows)
        yield _nested(effort, name, scope_nested.DB_SESSION, scope_nested.FLAT, "control", fine)
        by_key = {scope_nested.ADDS: "right"}
        yield _nested(effort, name, scope_nested.DB_SESSION, scope_nested.KEY, "remedy", by_key)
        yield _nested(effort, name, scope_nested.RECIPE, scope_nested.NESTED, "remedy", fine)


@experiment("scope-nested-context-removes-outer", uses=NESTED)
def removes_outer(effort: Effort) -> Iterator[Arm]:
    wrong = {scope_nested.LAZY: "error", scope_nested.SAVED: "lost"}
    fine = dict.fromkeys(wrong, "right")
    for name in DRIVERS[: effort.pick(2, 1)]:
        yield _nested(effort, name, scope_nested.BY_THREAD, scope_nested.NESTED, "hazard", wrong)
        yield _nested(effort, name, scope_nested.BY_THREAD, scope_nested.FLAT, "control", fine)
        yield _nested(effort, name, scope_nested.DB_SESSION, scope_nested.NESTED, "remedy", fine)
        yield _nested(effort, name, scope_nested.RECIPE, scope_nested.NESTED, "remedy", fine)


def _nested(effort: Effort, name: str, way: str, call: str, role: Role, words: dict[str, str]) -> Arm:
    framework = "Flask + Flask-SQLAlchemy" if way == scope_nested.DB_SESSION else "Flask"
    for part in framework.split(" + "):
        evidence.saw(part, metadata.version(part))
    it = Setup(driver(name).database, name, moment=call, framework=framework, scope=way)
    checks = [Check(row, "==", word) for row, word in words.items()]
    return arm(f"{way}, {call}, {name}", role, it, checks, functools.partial(_trials, effort, name, way, call))


def _trials(effort: Effort, name: str, way: str, call: str) -> list[Trial]:
    return [Trial(facts=got[way][call]) for got in _played(name, effort.pick(5, 1))]


@functools.cache
def _played(name: str, trials: int) -> list[dict[str, Any]]:
    with start(driver(name).database) as database:
        how = {"arguments": arguments(name, database), "database": database.kind}
        return [play("lab.scenes.scope_nested", **how) for _ in range(trials)]
