"""Whose a Session is, among the tasks of one event loop: shared, scoped, one for each (T3, T4)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.task_scoped import BY_TASK, BY_THREAD
from lab.scenes.task_shared import DEFAULT, EACH, IN_TURN, NULL, ONE, RECIPE, TASKS
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

DRIVERS = ("asyncpg", "psycopg async", "asyncmy")
COMMON = ["lab/scenes/task_common.py", "recipes/task_session.py"]
SHARED = ["lab/scenes/task_shared.py", *COMMON]
SIBLINGS = ["lab/scenes/task_siblings.py", *COMMON]
SCOPED = ["lab/scenes/task_scoped.py", "lab/scenes/task_common.py"]
PROVISIONING = "This session is provisioning a new connection; concurrent operations are not permitted"
OVERDRAWN = "Method 'close()' can't be called here"

ROLES: dict[str, Role] = {ONE: "hazard", IN_TURN: "control", EACH: "remedy", RECIPE: "remedy"}
Rows = Mapping[str, Any]


@experiment("task-one-session-cold", seeds=["T3"], uses=SHARED)
def cold(effort: Effort) -> Iterator[Arm]:
    for scope, role in ROLES.items():
        hurt = [Check("right", "==", 1), Check("provisioning", "==", TASKS - 1), Check("sessions", "==", 1)]
        well = [Check("right", "==", TASKS), Check("sessions", "==", 1 if scope == IN_TURN else TASKS)]
        yield from _shared(effort, scope, role, DEFAULT, "cold", hurt if role == "hazard" else well)


@experiment("task-one-session-shares-its-transaction", seeds=["T3"], uses=SHARED)
def warm(effort: Effort) -> Iterator[Arm]:
    for scope, role in ROLES.items():
        stored = 100 if role == "hazard" else 150
        backends = 1 if scope in (ONE, IN_TURN) else TASKS
        values = {"right": TASKS, "error": 0, "backends": backends, "told": "OK", "stored": stored}
        yield from _shared(effort, scope, role, DEFAULT, "warm", [Check(*each) for each in _equal(values)])


@experiment("task-nullpool-is-no-cure", seeds=["T3"], uses=SHARED)
def null_pool(effort: Effort) -> Iterator[Arm]:
    for scope, role in ROLES.items():
        right = 1 if role == "hazard" else TASKS
        values = {"right": right, "provisioning": TASKS - right, "stored": 100 if role == "hazard" else 150}
        yield from _shared(effort, scope, role, NULL, "cold", [Check(*each) for each in _equal(values)])


@experiment("task-close-beside-a-sibling", seeds=["T3"], uses=SIBLINGS)
def siblings(effort: Effort) -> Iterator[Arm]:
    ways: dict[str, Role] = {
        "gather()": "hazard",
        "gather(return_exceptions=True)": "remedy",
        "TaskGroup": "remedy",
        "a Session for each task": "remedy",
        "recipe task_session": "remedy",
    }
    for name in DRIVERS[: effort.pick(len(DRIVERS), 1)]:
        for way, role in ways.items():
            hurt = {"refused": False, "overdrawn": True, "out": 1}
            well = {"refused": True, "overdrawn": False, "out": 0}
            checks = [Check(*each) for each in _equal(hurt if role == "hazard" else well)]
            it = Setup(driver(name).database, name, remedy=way, concurrency=2)

            def run(name: str = name, way: str = way) -> list[Trial]:
                rows = _played("lab.scenes.task_siblings", name, effort.pick(5, 1))[way]
                return [Trial(facts={**row, "overdrawn": OVERDRAWN in row["told"]}) for row in rows]

            yield arm(f"{way}, {name}", role, it, checks, run)


@experiment("task-registry-by-thread-is-one-session", seeds=["T4"], uses=SCOPED)
def by_thread(effort: Effort) -> Iterator[Arm]:
    values = {"sessions": 1, "told": "OK", "stored": 100}
    yield from _scoped(effort, f"{BY_THREAD}, remove()", "hazard", values)
    yield from _scoped(effort, f"{BY_TASK}, remove()", "remedy", {"sessions": TASKS, "told": "OK", "stored": 150})


@experiment("task-registry-by-task-keeps-all", seeds=["T4", "T5"], uses=SCOPED)
def by_task(effort: Effort) -> Iterator[Arm]:
    values = {"registry": TASKS, "tasks": TASKS, "out": TASKS, "next": "error"}
    yield from _scoped(effort, BY_TASK, "hazard", values)
    values = {"registry": 0, "tasks": 0, "out": 0, "next": "right"}
    yield from _scoped(effort, f"{BY_TASK}, remove()", "remedy", values)


def _equal(values: Rows) -> Iterator[tuple[str, str, Any]]:
    return ((name, "==", value) for name, value in values.items())


def _shared(effort: Effort, scope: str, role: Role, pool: str, moment: str, checks: list[Check]) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(len(DRIVERS), 1)]:
        it = Setup(driver(name).database, name, moment=moment, concurrency=TASKS, scope=scope, pool=pool)

        def run(name: str = name) -> Iterator[Trial]:
            for row in _played("lab.scenes.task_shared", name, effort.pick(5, 1))[f"{scope}, {pool}"]:
                ten = row[moment]
                outcomes = [Outcome(each["kind"], each.get("message", "")) for each in ten["outcomes"]]
                refused = sum(PROVISIONING in each.message for each in outcomes)
                facts = {**ten, **row, "provisioning": refused}
                facts = {key: value for key, value in facts.items() if key not in ("outcomes", "cold", "warm")}
                yield Trial(Tally.of(outcomes), facts=facts)

        yield arm(f"{scope}, {pool}, {name}", role, it, checks, run)


def _scoped(effort: Effort, way: str, role: Role, values: Rows) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(len(DRIVERS), 1)]:
        it = Setup(driver(name).database, name, concurrency=TASKS, scope=way, pool="5+5")

        def run(name: str = name) -> Iterator[Trial]:
            for row in _played("lab.scenes.task_scoped", name, effort.pick(5, 1))[way]:
                yield Trial(facts={**row, "next": row["next"]["kind"], "said": row["next"].get("message", "")})

        yield arm(f"{way}, {name}", role, it, [Check(*each) for each in _equal(values)], run)


@functools.cache
def _played(scene: str, name: str, trials: int) -> dict[str, Any]:
    with start(driver(name).database) as database:
        how = {"engine": arguments(name, database), "database": database.kind, "trials": trials}
        return play(scene, patience=240, **how)
