"""One connection of a driver's own under two threads, beside what the driver says of its thread safety."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.shared_session import DRIVERS
from lab.process import play
from lab.scenes.shared_connection import EACH, ONE
from lab.scenes.shared_lanes import OK
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

SCENE = "lab.scenes.shared_connection"
USES = [
    "lab/scenes/shared_connection.py", "lab/scenes/shared_money.py", "lab/scenes/shared_lanes.py",
    "lab/experiments/shared_session.py",
]  # fmt: skip
LIVES, DIES = Check("parent", "==", "alive"), Check("parent", "==", "dead")
# By driver what it says of itself, whether B waits, and what comes of it in each run or, where it is left to chance how
# the two read what arrives, in some.
EXPECTED: dict[str, tuple[Role, int, bool, list[Check]]] = {
    "psycopg2": ("control", 2, True, [Check("bad", "==", 0), LIVES]),
    "psycopg": ("control", 2, True, [Check("bad", "==", 0), LIVES]),
    "pg8000": ("hazard", 1, True, [Check("error", ">=", 1, of="some"), replace(DIES, of="some")]),
    "PyMySQL": ("hazard", 1, True, [Check("bad", ">=", 1), DIES]),
    "mysqlclient": ("hazard", 1, False, [Check("error", "==", 1), Check("bad", "==", 1), LIVES]),
    "mysql-connector": ("hazard", 1, True, [Check("bad", ">=", 1, of="some"), replace(DIES, of="some")]),
}
SLOW = ("mysql-connector",)


@experiment("one-connection-two-threads", seeds=["T3"], uses=USES)
def at_once(effort: Effort) -> Iterator[Arm]:
    """Facts: the driver's ``threadsafety``; whether B ``waits`` for A's statement to end; what a wrong answer ``got
    instead`` of 500 rows with its nonce.
    """
    for name in effort.pick(DRIVERS, ("psycopg2", "mysqlclient", "PyMySQL")):
        role, safety, waits, comes = EXPECTED[name]
        checks = [Check("threadsafety", "==", safety), Check("waits", "==", waits), *comes]
        yield _arm(effort, name, role, ONE, checks)
        right = [Check("bad", "==", 0), Check("waits", "==", False), LIVES]
        yield _arm(effort, name, "remedy", EACH, right)


@experiment("thread-safe-driver-loses-write", seeds=["T3"], uses=USES)
def in_turns(effort: Effort) -> Iterator[Arm]:
    """Facts: what each ``is told``; the ``balance`` that is stored, which was 100 before A paid in 50."""
    for name in ("psycopg2", "psycopg")[: effort.pick(2, 1)]:
        for scope, role, balance in ((ONE, "hazard", 100), (EACH, "remedy", 150)):
            facts = {"threadsafety": 2, "A is told": OK, "B is told": OK, "balance": balance}
            checks = [Check(field, "==", value) for field, value in facts.items()]
            run = functools.partial(_turns, effort, name, scope)
            yield arm(f"{name}, {scope}", role, Setup(driver(name).database, name, scope=scope), checks, run)


def _arm(effort: Effort, name: str, role: Role, scope: str, checks: list[Check]) -> Arm:
    def run() -> Iterator[Trial]:
        played = _played(name, effort.pick(5 if name in SLOW else 10, 1))[scope]
        for seen in (trial["at once"] for trial in played["trials"]):
            after, message = seen["after"]
            survival = Survival("alive") if after == "right" else Survival("dead", message or after)
            tally = Tally.of([Outcome(*seen["A"]), Outcome(*seen["B"])])
            facts = {"threadsafety": played["threadsafety"], "waits": seen["waits"]}
            # A wrong answer has no message of its own.
            if wrong := {who: seen[who][1] for who in ("A", "B") if seen[who][0] == "wrong"}:
                facts["got instead"] = wrong
            yield Trial(tally, survival, facts)

    return arm(f"{name}, {scope}", role, Setup(driver(name).database, name, scope=scope), checks, run)


def _turns(effort: Effort, name: str, scope: str) -> Iterator[Trial]:
    played = _played(name, effort.pick(10, 1))[scope]
    for seen in (trial["in turns"] for trial in played["trials"]):
        yield Trial(facts={**seen, "threadsafety": played["threadsafety"], "balance": seen["stored"][0]})


@functools.cache
def _played(name: str, trials: int) -> dict[str, Any]:
    kind = driver(name).database
    with start(kind) as database:
        how = {"engine": arguments(name, database), "database": kind, "trials": trials, "patience": 300}
        return {scope: play(SCENE, scope=scope, **how) for scope in (ONE, EACH)}
