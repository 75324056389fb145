"""A fork while an event loop runs: what async engines make of it (F1, F5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.moment import databases
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

USES = [
    "lab/scenes/loop.py",
    "lab/scenes/choreography.py",
    "lab/experiments/moment.py",
    "recipes/fork_safe_engine.py",
]
DRIVERS = ("asyncpg", "psycopg async", "asyncmy")
OWN_LOOP, INHERITED_LOOP = "asyncio.run", "goes on in the inherited loop"

RIGHT, ERROR = Check("child", "==", "right"), Check("child", "==", "error")
SHARED, OWN = Check("shared", "==", True), Check("shared", "==", False)
ALIVE, DEAD = Check("parent", "==", "alive"), Check("parent", "==", "dead")
HUNG, ENDED = Check("parent_asked", "==", "hung"), Check("sessions", "==", 0)
UNWATCHED, WATCHED = Check("watched", "==", False), Check("watched", "==", True)
COLLECTED = ("dispose(close=False)", "gc.collect", "ask")


@dataclass(frozen=True)
class Case:
    """What a child does, and is to see of it."""

    role: Role
    driver: str
    steps: Sequence[str]
    checks: Sequence[Check]
    remedy: str = ""
    does: str = OWN_LOOP
    protected: bool = False


@experiment("fork-running-event-loop", seeds=["F1", "F5"], uses=USES)
def running_loop(effort: Effort) -> Iterator[Arm]:
    names = DRIVERS[: effort.pick(len(DRIVERS), 2)]
    harm = {"psycopg async": [RIGHT, SHARED], "asyncpg": [ERROR, DEAD], "asyncmy": [ERROR, DEAD]}
    own = [RIGHT, OWN, ALIVE]
    cases = []
    for name in names:
        cases += [
            Case("hazard", name, ["ask"], harm[name]),
            Case("remedy", name, ["a new engine", "gc.collect", "ask"], own, "a new engine, the old one kept"),
            Case("remedy", name, ["gc.collect", "ask"], own, "protect(engine.sync_engine)", protected=True),
        ]
    yield from _arms(effort, cases)


@experiment("fork-inherited-loop-is-of-no-use", seeds=["F5"], uses=USES)
def inherited_loop(effort: Effort) -> Iterator[Arm]:
    steps, remedy = ["a new engine", "ask"], "a new engine, the old one kept"
    cases = []
    for name in DRIVERS[: effort.pick(len(DRIVERS), 1)]:
        cases += [
            Case("hazard", name, steps, [ERROR, Check("no_loop", "==", True), ALIVE], remedy, INHERITED_LOOP),
            Case("control", name, steps, [RIGHT, OWN, ALIVE], remedy),
        ]
    yield from _arms(effort, cases)


@experiment("fork-shares-the-selector", seeds=["F5"], uses=USES)
def selector(effort: Effort) -> Iterator[Arm]:
    own, remedy = [RIGHT, OWN, ALIVE], "dispose(close=False), and a collection"
    watched = [*own, WATCHED]
    cases = [
        Case("hazard", "asyncpg", COLLECTED, [RIGHT, OWN, HUNG, ENDED, UNWATCHED], remedy),
        Case("control", "asyncpg", ["dispose(close=False)", "ask"], watched, "dispose(close=False), no collection"),
        Case("remedy", "asyncpg", COLLECTED, watched, "protect, and a collection", protected=True),
        *(Case("control", name, COLLECTED, own, remedy) for name in DRIVERS[1:]),
    ]
    yield from _arms(effort, cases)


def _arms(effort: Effort, cases: Sequence[Case]) -> Iterator[Arm]:
    with databases() as database:
        for case in cases:
            kind = driver(case.driver).database
            it = Setup(
                kind, case.driver, False, "os.fork", case.remedy, 1, moment="an event loop runs", child=case.does
            )

            def run(case: Case = case, kind: str = kind) -> Iterator[Trial]:
                engine = arguments(case.driver, database(kind))
                how = {"own_loop": case.does == OWN_LOOP, "steps": case.steps, "protected": case.protected}
                for _ in range(effort.pick(3, 1)):
                    yield _trial(play("lab.scenes.loop", engine=engine, database=kind, **how))

            label = ", ".join(filter(None, (case.driver, case.does, case.remedy)))
            yield arm(label, case.role, it, case.checks, run)


def _trial(told: dict[str, Any]) -> Trial:
    """Facts of the parent after the child: is its connection ``watched`` by its loop; ``sessions`` left if hung."""
    child, parent = told["child"], told["parent"]
    outcomes = [Outcome(it["kind"], it.get("message", "")) for it in (child, parent)]
    facts = {
        "child": child["kind"],
        "child_said": child.get("message", ""),
        "no_loop": "no running event loop" in child.get("message", ""),
        "shared": child["backend"] == told["backend"] if "backend" in child else None,
        "parent_asked": parent["kind"],
        "sessions": parent.get("sessions"),
        "watched": told["watched"],
    }
    alive = parent["kind"] == "right" and parent["backend"] == told["backend"]
    survival = Survival("alive") if alive else Survival("dead", parent.get("message", ""))
    return Trial(Tally.of(outcomes), survival, facts)
