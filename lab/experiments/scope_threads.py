"""Whose a Session is, when the scope is a thread: what threads share, keep, and leave behind."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes import scope_pool, scope_shared
from lab.scenes.scope_lanes import (
    COMMIT_ONLY,
    GLOBAL,
    GUARDED,
    JOB_RECIPE,
    NO_REMOVE,
    PER_JOB,
    REGISTRY_RECIPE,
    REMOVE,
    STORED,
)
from lab.shapes import Arm, Check, Role, Setup, Trial

RECIPES = ["recipes/thread_session.py", "recipes/scoped_registry.py"]
USES = ["lab/pages.py", "lab/scenes/scope_lanes.py", *RECIPES]
SHARED, POOL, DYING = "lab/scenes/scope_shared.py", "lab/scenes/scope_pool.py", "lab/scenes/scope_dying.py"
# SQLite has one writer at a time: where two threads hold a transaction each, it would only show its locks.
SERVERS, ALL = ("psycopg", "PyMySQL"), ("psycopg", "PyMySQL", "sqlite")
COUNTED = (GLOBAL, NO_REMOVE, PER_JOB, JOB_RECIPE, REGISTRY_RECIPE)
TOGETHER = (GLOBAL, STORED, REMOVE, PER_JOB, GUARDED, JOB_RECIPE, REGISTRY_RECIPE)
POOLED = (NO_REMOVE, REMOVE, PER_JOB, JOB_RECIPE, REGISTRY_RECIPE)
DEFAULT = (NO_REMOVE, "default")
DEATHS: dict[tuple[str, str], Role] = {
    (NO_REMOVE, "off"): "hazard",
    (NO_REMOVE, "after each thread"): "control",
    (COMMIT_ONLY, "off"): "control",
    (REMOVE, "off"): "remedy",
    (JOB_RECIPE, "off"): "remedy",
    (REGISTRY_RECIPE, "off"): "remedy",
}


@experiment("scope-thread-has-its-own", seeds=["T4"], uses=[*USES, SHARED])
def own(effort: Effort) -> Iterator[Arm]:
    """Facts: of four threads, how many ``sessions`` and ``connections`` they have; how many have ``threads with one``,
    within a job, and ``the same at the next job``.
    """
    roles: dict[str, Role] = {GLOBAL: "hazard", NO_REMOVE: "control"}
    for name in SERVERS[: effort.pick(2, 1)]:
        for way in COUNTED:
            checks = [Check("sessions", "==", 1 if way == GLOBAL else 4), Check("threads with one", "==", 4)]
            if way in roles:
                checks += [Check("the same at the next job", "==", 4), Check("connections", "==", checks[0].value)]
            # What it is here is not whether anything is removed.
            scope = "scoped_session" if way == NO_REMOVE else way
            run = functools.partial(of, "shared", name, effort, "counted", way)
            yield arm(f"{scope}, {name}", roles.get(way, "remedy"), setup(name, scope), checks, run)


@experiment("scope-stored-session-is-shared", seeds=["T4"], uses=[*USES, SHARED])
def stored(effort: Effort) -> Iterator[Arm]:
    """Facts: what became of A's work, by what B did meanwhile; in ``says`` what was raised, and in whom."""
    wrong = dict(zip(ROWS, ("lost", "dirty", "error"), strict=True))
    for name in SERVERS[: effort.pick(2, 1)]:
        for way in TOGETHER:
            role: Role = "hazard" if way in (GLOBAL, STORED) else "remedy"
            words = wrong if role == "hazard" else dict.fromkeys(ROWS, "right")
            run = functools.partial(of, "shared", name, effort, "shared", way)
            yield arm(f"{way}, {name}", role, setup(name, way), equal(words), run)


ROWS = ("A commits, B has rolled back", "A rolls back, B has committed", "A loads lazily, B has closed")


@experiment("scope-close-all-breaks-others", uses=[*USES, SHARED])
def close_all(effort: Effort) -> Iterator[Arm]:
    rows = (scope_shared.LEFT, scope_shared.LAZY, scope_shared.WRITE)
    expected: dict[str, tuple[Role, tuple[str, ...]]] = {
        scope_shared.NOTHING: ("hazard", ("leaked", "right", "right")),
        scope_shared.CLOSE_ALL: ("hazard", ("right", "error", "lost")),
        scope_shared.OWN_REMOVE: ("remedy", ("right", "right", "right")),
    }
    for name in SERVERS[: effort.pick(2, 1)]:
        for what, (role, words) in expected.items():
            run = functools.partial(of, "shared", name, effort, "teardown", what)
            it = Setup(driver(name).database, name, remedy=what, scope="scoped_session")
            yield arm(f"{what}, {name}", role, it, equal(dict(zip(rows, words, strict=True))), run)


@experiment("scope-pool-thread-keeps-session", seeds=["T5"], uses=[*USES, POOL])
def pool(effort: Effort) -> Iterator[Arm]:
    """Facts: words by row; see the scene for the counts."""
    wrong = dict(zip(JOBS, ("dirty", "old", "leaked", "error"), strict=True))
    right = dict(zip(JOBS, ("right", "new", "right", "right"), strict=True))
    for name in ALL[:: effort.pick(1, 2)]:
        for way in POOLED:
            hazard = way == NO_REMOVE
            # SQLite has no server that could be asked what is open.
            counts = {"open": 5, "after shutdown": 5} if hazard else {"open": 0}
            expected = {**(wrong if hazard else right), "out": 5 * hazard, "failed jobs": 3 * hazard, "elsewhere": 0}
            if name != "sqlite":
                expected |= {**counts, "after a collection": 0}
            run = functools.partial(of, "pool", name, effort, "told", way)
            checks = equal(expected)
            yield arm(f"{way}, {name}", "hazard" if hazard else "remedy", setup(name, way), checks, run)


JOBS = (scope_pool.DIRTY, scope_pool.READS, scope_pool.LEFT, scope_pool.FAILED)


@experiment("scope-dying-thread-keeps-connection", seeds=["T5"], uses=[*USES, DYING])
def dying(effort: Effort) -> Iterator[Arm]:
    """Facts: of 60 threads, ``served`` and ``timeouts``; what is ``out`` and ``alive`` afterwards; see the scene."""
    for name in ALL[:: effort.pick(1, 2)]:
        for (way, collector), role in DEATHS.items():
            served = 15 if role == "hazard" else 60
            checks = equal({"served": served, "timeouts": 60 - served, "out": served % 60})
            if role == "hazard":
                # A Session that waited in vain has begun its transaction as well.
                checks += equal({"first": 16, "alive": 60, "held by": ["SessionTransaction"]})
            run = functools.partial(of, "dying", name, effort, "told", f"{way}, {collector}")
            yield arm(f"{way}, collector {collector}, {name}", role, _dying_setup(name, way, collector), checks, run)
        # In the wild it is a matter of luck, and only so much is sure.
        checks = [Check("served", ">=", 15), Check("out", "<=", 15)]
        run = functools.partial(_wild, name, effort.pick(10, 1))
        yield arm(f"{NO_REMOVE}, collector default, {name}", "control", _dying_setup(name, *DEFAULT), checks, run)


def setup(name: str, scope: str) -> Setup:
    return Setup(driver(name).database, name, scope=scope)


def _dying_setup(name: str, way: str, collector: str) -> Setup:
    return Setup(driver(name).database, name, threads=60, moment=f"collector {collector}", scope=way, pool="5+10")


def equal(expected: Mapping[str, Any]) -> list[Check]:
    return [Check(row, "==", value) for row, value in expected.items()]


def of(scene: str, name: str, effort: Effort, part: str, key: str) -> list[Trial]:
    """What the trials of a scene say under a key: all claims on a driver rest on the same runs, on one server."""
    return [Trial(facts=got[scene][part][key]) for got in _played(name, effort.pick(5, 1))]


@functools.cache
def _played(name: str, trials: int) -> list[dict[str, dict[str, Any]]]:
    with start(driver(name).database) as database:
        how = {"arguments": arguments(name, database), "database": database.kind, "patience": 240}
        return [_once(name, how) for _ in range(trials)]


def _once(name: str, how: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    deaths = play("lab.scenes.scope_dying", cases=list(DEATHS), **how)["told"]
    found = {
        "pool": {"told": play("lab.scenes.scope_pool", names=POOLED, **how)},
        "dying": {"told": {", ".join(case): seen for case, seen in zip(DEATHS, deaths, strict=True)}},
    }
    if name in SERVERS:
        keys = play("lab.scenes.scope_keys", **how)
        found |= {
            "shared": play("lab.scenes.scope_shared", shared=TOGETHER, counted=COUNTED, **how),
            "keys": {"ids": keys["ids"], **{f"contexts, {where}": seen for where, seen in keys["contexts"].items()}},
            "objects": {"told": play("lab.scenes.scope_objects", **how)},
        }
    return found


def _wild(name: str, trials: int) -> Iterator[Trial]:
    """Each in an interpreter of its own, as the collector's counters go on where the last run left them."""
    with start(driver(name).database) as database:
        how = {"arguments": arguments(name, database), "database": database.kind, "cases": [DEFAULT]}
        for _ in range(trials):
            yield Trial(facts=play("lab.scenes.scope_dying", **how)["told"][0])
