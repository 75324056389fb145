"""One connection of a driver's own under two threads, beside what the driver says of its thread safety."""

from __future__ import annotations

import functools
from collections.abc import Iterator
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
# Of these, the same thing happens in each run; threadsafety, whether B waits, bad answers, and the connection after it.
SURE: dict[str, tuple[Role, int, bool, int, str]] = {
    "psycopg2": ("control", 2, True, 0, "alive"),
    "psycopg": ("control", 2, True, 0, "alive"),
    "mysqlclient": ("hazard", 1, False, 1, "alive"),
    "PyMySQL": ("hazard", 1, True, 1, "dead"),
}


@experiment("one-connection-two-threads", seeds=["T3"], uses=USES)
def at_once(effort: Effort) -> Iterator[Arm]:
    """Facts: the driver's ``threadsafety``; whether B ``waits`` for A's statement to end."""
    for name in effort.pick(DRIVERS, ("psycopg2", "mysqlclient", "PyMySQL")):
        if name in SURE:
            role, safety, waits, bad, parent = SURE[name]
            facts = {"threadsafety": safety, "waits": waits, "bad": bad, "parent": parent}
            checks = [Check(field, "==", value) for field, value in facts.items()]
        else:
            # How the two read what comes is left to chance.
            role, checks = "hazard", [Check("threadsafety", "==", 1), Check("waits", "==", True)]
            checks += [Check("bad", ">=", 1, of="some"), Check("parent", "==", "dead", of="some")]
        yield _arm(effort, name, role, ONE, checks)
        right = [Check("bad", "==", 0), Check("waits", "==", False), Check("parent", "==", "alive")]
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
        played = _played(name, effort.pick(10, 1))[scope]
        for seen in (trial["at once"] for trial in played["trials"]):
            after, message = seen["after"]
            survival = Survival("alive") if after == "right" else Survival("dead", message or after)
            tally = Tally.of([Outcome(*seen["A"]), Outcome(*seen["B"])])
            yield Trial(tally, survival, {"threadsafety": played["threadsafety"], "waits": seen["waits"]})

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
