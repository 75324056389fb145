"""One Session and two threads that take turns: three ways to a wrong balance, and no error in any."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import DRIVERS as ROWS
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.shared_lanes import OK
from lab.scenes.shared_money import EACH, ONE, REFUSED
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.shared_money"
USES = ["lab/scenes/shared_money.py", "lab/scenes/shared_lanes.py"]
DRIVERS = tuple(name for name, row in ROWS.items() if row.database in ("postgresql", "mariadb"))
LEVELS = ("READ COMMITTED", "SERIALIZABLE")


def chosen(effort: Effort) -> tuple[str, ...]:
    """All network drivers; for the gate one of each kind of server."""
    return DRIVERS[:: effort.pick(1, 3)]


@experiment("shared-session-loses-acknowledged-write", seeds=["T3"], uses=USES)
def lost_write(effort: Effort) -> Iterator[Arm]:
    told = {"reads, rollback()": OK, "reads, close()": OK, "fails, rollback()": REFUSED}
    for name in chosen(effort):
        for request, to_b in told.items():
            for scope, role, balance in ((ONE, "hazard", 100), (EACH, "remedy", 150)):
                facts = {"A is told": OK, "B is told": to_b, "balance": balance}
                yield _arm(effort, name, role, scope, "pays in", request, facts)
        facts = {"A is told": OK, "B is told": OK, "balance": 150}
        yield _arm(effort, name, "control", ONE, "pays in", "reads", facts)


@experiment("shared-session-half-transfer", seeds=["T3"], uses=USES)
def half_transfer(effort: Effort) -> Iterator[Arm]:
    rows: tuple[tuple[str, Role, str, int], ...] = (
        (ONE, "hazard", "reads, commit()", 150),
        (EACH, "remedy", "reads, commit()", 200),
        (ONE, "control", "reads", 200),
    )
    for name in chosen(effort):
        for scope, role, request, total in rows:
            facts = {"A is told": REFUSED, "B is told": OK, "total": total}
            yield _arm(effort, name, role, scope, "transfers", request, facts)


@experiment("shared-session-dirty-read", seeds=["T3"], uses=USES)
def dirty_read(effort: Effort) -> Iterator[Arm]:
    for name in chosen(effort):
        for level in LEVELS:
            yield _arm(effort, name, "hazard", ONE, "looks", level, {"B reads": 0, "balance": 100})
            waits = driver(name).database == "mariadb" and level == "SERIALIZABLE"
            facts = {"B reads": "blocked" if waits else 100, "balance": 100}
            yield _arm(effort, name, "remedy", EACH, "looks", level, facts)


def _arm(effort: Effort, name: str, role: Role, scope: str, story: str, how: str, facts: Mapping[str, Any]) -> Arm:
    """One arm of a *story* by the scene. *how* is what B requests, or the isolation at which it reads."""
    said = {"isolation": how} if story == "looks" else {"request": how}
    setup = Setup(driver(name).database, name, scope=scope, **said)
    checks = [Check(field, "==", value) for field, value in facts.items()]

    def run() -> list[Trial]:
        seen = _played(name, effort.pick(10, 1))[story][scope][how]
        return [Trial(facts={**trial, "balance": trial["stored"][0], "total": sum(trial["stored"])}) for trial in seen]

    return arm(f"{name}, {how}, {scope}", role, setup, checks, run)


@functools.cache
def _played(name: str, trials: int) -> dict[str, Any]:
    with start(driver(name).database) as database:
        return play(SCENE, engine=arguments(name, database), isolations=LEVELS, trials=trials, patience=240)
