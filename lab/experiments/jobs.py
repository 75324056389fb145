"""A worker's Session that outlives its job, as a request's outlives the request."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Setup, Tally, Trial

DELETED, FAILED, NOTHING = "the row was deleted meanwhile", "the job before failed in a flush", "nothing happened"
# What the second job does, with the worker's Session and with its own.
EXPECTED = {DELETED: ("nothing", "finds no row"), FAILED: ("nothing", "writes"), NOTHING: ("writes", "writes")}


OWN, SHARED = "a Session for each job", "one Session for the worker"
# Job by job and for the worker, of each case; a worker in whose life nothing happens is the control.
ROLES = {
    (DELETED, SHARED): "hazard",
    (DELETED, OWN): "remedy",
    (FAILED, SHARED): "hazard",
    (FAILED, OWN): "remedy",
    (NOTHING, SHARED): "control",
}


@experiment("session-left-over-fails-next-job", uses=["lab/pages.py", "lab/scenes/jobs.py"])
def next_job(effort: Effort) -> Iterator[Arm]:
    for name in ("psycopg2", "PyMySQL", "sqlite")[:: effort.pick(1, 2)]:
        played = functools.cache(functools.partial(_play, name, effort.pick(5, 1)))
        for (case, whose), role in ROLES.items():
            it = Setup(driver(name).database, name, remedy=whose, request=case)
            does = EXPECTED[case][whose == OWN]
            checks = [Check("does", "==", does), Check("error", "==", int(does == "nothing"))]
            yield arm(f"{case}, {whose}, {name}", role, it, checks, functools.partial(_trials, played, case, whose))


def _trials(played: Callable[[], list[dict[tuple[str, str], Any]]], *case: str) -> Iterator[Trial]:
    for got in (rows[case] for rows in played()):
        outcome = Outcome("error", got["error"]) if got["error"] else Outcome("right")
        yield Trial(Tally.of([outcome]), facts={"does": got["does"]})


def _play(name: str, count: int) -> list[dict[tuple[str, str], Any]]:
    with start(driver(name).database) as database:
        cases = [(case, whose == OWN) for case, whose in ROLES]
        how = {"arguments": arguments(name, database), "database": database.kind, "cases": cases}
        return [dict(zip(ROLES, play("lab.scenes.jobs", **how)["rows"], strict=True)) for _ in range(count)]
