"""The recipe polling_worker: what it sees, what it holds while it sleeps, and what a lost connection costs it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.worker import ASLEEP, IN_A_STEP, POLLS
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.worker"
USES = ["lab/scenes/worker.py", "lab/scenes/staleness.py", "recipes/polling_worker.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL"}
LEVELS = ("READ COMMITTED", "REPEATABLE READ")
NONE, ROLLBACK, RECIPE, PING = (
    "none",
    "rollback() before each poll",
    "polling_worker",
    "polling_worker, pool_pre_ping",
)
HELD, COLUMN, ROW = "an object it holds", "a column", "a new row"


@experiment("polling-worker-recipe-sees-changes", seeds=["I3", "I5"], uses=USES)
def sees_changes(effort: Effort) -> Iterator[Arm]:
    """Facts: "new" where the first poll after the change sees it, "late" where a later one does, "old" where none."""
    for kind in DRIVERS:
        for isolation in LEVELS:
            by_value = "new" if isolation == "READ COMMITTED" else "old"
            yield _arm(
                effort, "changes", kind, isolation, NONE, "hazard", {HELD: "old", COLUMN: by_value, ROW: by_value}
            )
            for way, role in ((ROLLBACK, "control"), (RECIPE, "remedy")):
                yield _arm(effort, "changes", kind, isolation, way, role, dict.fromkeys((HELD, COLUMN, ROW), "new"))


@experiment("polling-worker-idle-holds-nothing", uses=USES)
def idle(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        for isolation in LEVELS:
            for way in (NONE, ROLLBACK):
                holds = {"open transactions": 1, "ALTER TABLE": "blocked"}
                yield _arm(effort, "idle", kind, isolation, way, "hazard", holds)
            yield _arm(
                effort, "idle", kind, isolation, RECIPE, "remedy", {"open transactions": 0, "ALTER TABLE": "done"}
            )


@experiment("polling-worker-survives-lost-connection", uses=USES)
def survives(effort: Effort) -> Iterator[Arm]:
    """Facts: how many of the next four polls fail."""
    for kind in DRIVERS:
        for way, role, asleep, in_a_step in (
            (NONE, "hazard", POLLS, POLLS),
            (ROLLBACK, "control", 0, 1),
            (RECIPE, "remedy", 1, 1),
            (PING, "remedy", 0, 1),
        ):
            yield _arm(effort, "lost", kind, "", way, role, {ASLEEP: asleep, IN_A_STEP: in_a_step})


def _arm(
    effort: Effort, what: str, kind: str, isolation: str, way: str, role: Role, expected: Mapping[str, object]
) -> Arm:
    it = Setup(kind, DRIVERS[kind], isolation=isolation, remedy=way, workers=1)
    title = ", ".join(filter(None, (kind, isolation, way if way != NONE else "one Session")))
    checks = [Check(name, "==", value) for name, value in expected.items()]
    return arm(title, role, it, checks, _trials(effort, what, kind, isolation, way))


def _trials(effort: Effort, what: str, kind: str, isolation: str, way: str) -> Callable[[], list[Trial]]:
    def run() -> list[Trial]:
        found = played(kind, effort.pick(5, 1))[what]
        return [Trial(facts=facts) for facts in (found[isolation] if isolation else found)[way]]

    return run


@functools.cache
def played(kind: str, trials: int) -> dict[str, Any]:
    """What :func:`lab.scenes.worker.main` saw of a database."""
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return play(SCENE, engine=engine, database=kind, isolations=LEVELS, trials=trials, patience=240)
