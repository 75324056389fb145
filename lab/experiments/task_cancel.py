"""A task is cancelled while it waits for the database: what is left in the pool, and whose answer comes next (T3)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import ROOT, Effort, arm, experiment
from lab.process import play
from lab.scenes.task_cancelled import AGAIN, BETWEEN, COMMIT, CONNECT, KEPT, ONCE, PING, QUERY, RECIPE, ROLLBACK, WITH
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

DRIVERS = ("asyncpg", "psycopg async", "asyncmy")
USES = [
    "lab/scenes/task_cancelled.py",
    "lab/scenes/task_relay.py",
    "lab/scenes/task_common.py",
    "recipes/task_session.py",
]
MOMENTS = (CONNECT, PING, QUERY, BETWEEN, COMMIT, ROLLBACK)
OLDEST = "SQLAlchemy 2.0.31"
NEWEST = "SQLAlchemy 2.1"
PINGS, NO_PING = "pool_pre_ping", "no pool_pre_ping"


@dataclass(frozen=True)
class Case:
    """One driver and engine, how the Session is ended and how often the task is cancelled."""

    role: Role
    driver: str
    way: str
    how: str
    ping: bool = True
    release: str = NEWEST

    @property
    def moments(self) -> tuple[str, ...]:
        # Whose Session nobody closes is in no close().
        none = {PING: not self.ping, ROLLBACK: self.way == KEPT}
        return tuple(moment for moment in MOMENTS if not none.get(moment))

    def setup(self) -> Setup:
        pool = f"1+0, {PINGS if self.ping else NO_PING}"
        return Setup(
            driver(self.driver).database,
            self.driver,
            remedy=self.way,
            moment=f"cancelled {self.how}",
            mode=self.release,
            pool=pool,
        )


@experiment("task-cancelled-leaves-the-pool-right", seeds=["T3"], uses=USES)
def cancelled(effort: Effort) -> Iterator[Arm]:
    # What an interrupted task leaves of a pool of one, by the release's own doing or its user's.
    hazards = [
        (Case("hazard", "asyncpg", WITH, AGAIN, True, OLDEST), {PING: "leaked"}),
        (Case("hazard", "asyncpg", WITH, AGAIN, False, OLDEST), {COMMIT: "error"}),
        *((Case("hazard", name, KEPT, ONCE), {BETWEEN: "leaked"}) for name in DRIVERS),
    ]
    remedies = [
        Case("remedy", name, way, how, ping)
        for name in DRIVERS
        for way, how in ((WITH, ONCE), (WITH, AGAIN), (RECIPE, AGAIN))
        for ping in (True, False)
    ]
    controls = [Case("control", "asyncpg", WITH, ONCE, ping, OLDEST) for ping in (True, False)]
    cases = [*hazards, *((case, {}) for case in (*controls, *remedies))]
    if effort.name == "gate":
        cases = [(case, bad) for case, bad in cases if case.driver == "asyncpg" and case.ping and case not in controls]
    for case, bad in cases:
        checks = [Check(moment, "==", bad.get(moment, "right")) for moment in case.moments]
        yield _arm(effort, case, checks)


@experiment("task-cancelled-in-commit-may-be-stored", seeds=["T3"], uses=USES)
def in_commit(effort: Effort) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(len(DRIVERS), 1)]:
        for way, how in ((WITH, ONCE), (RECIPE, AGAIN)):
            checks = [Check("told", "==", "cancelled"), Check("stored", "==", 150)]
            yield _arm(effort, Case("hazard", name, way, how), checks, COMMIT)
            checks = [Check("told", "==", "cancelled"), Check("stored", "==", 100)]
            yield _arm(effort, Case("control", name, way, how), checks, QUERY)


def _arm(effort: Effort, case: Case, checks: list[Check], only: str = "") -> Arm:
    """Of all moments, or of *only* one."""
    it = case.setup()
    name = ", ".join(filter(None, (case.driver, case.way, it.moment, it.pool, case.release, only)))

    def run() -> Iterator[Trial]:
        for told in _played(case.driver, effort.pick(2, 1))[case.release, case.ping]:
            rows = told[f"{case.way}, {case.how}"]
            yield _trial({moment: rows[moment] for moment in ([only] if only else case.moments)}, only)

    return arm(name, case.role, it, checks, run)


def _trial(rows: Mapping[str, Any], only: str) -> Trial:
    """By moment a word for what it left, and of one moment how the task ended (``told``) and what is ``stored``."""
    outcomes = [Outcome(each["kind"], each.get("message", "")) for row in rows.values() for each in row["next"]]
    says = {moment: "; ".join([f"the task: {row['told']}", *row["warned"]]) for moment, row in rows.items()}
    facts: dict[str, Any] = {moment: _word(row) for moment, row in rows.items()}
    if only:
        facts = {"told": rows[only]["told"], "stored": rows[only]["stored"]}
    return Trial(Tally.of(outcomes), facts={**facts, "says": says})


def _word(row: Mapping[str, Any]) -> str:
    if row["told"] != "cancelled":
        return row["told"]
    if row["out"]:
        return "leaked"
    kinds = {each["kind"] for each in row["next"]}
    return next((kind for kind in ("wrong", "error") if kind in kinds), "right")


@functools.cache
def _played(name: str, count: int) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """By release and pre-ping *count* runs of the ways; of a single run, those with a ping only."""
    plays = {(NEWEST, True): (WITH, RECIPE, KEPT), (NEWEST, False): (WITH, RECIPE)}
    if name == "asyncpg":
        plays |= {(OLDEST, True): (WITH,), (OLDEST, False): (WITH,)}
    if count == 1:
        plays = {key: ways for key, ways in plays.items() if key[1]}
    with start(driver(name).database) as database:
        engine = arguments(name, database)

        def played(release: str, ping: bool, ways: tuple[str, ...]) -> dict[str, Any]:
            # The oldest release lies beside the newest, which it hides.
            under = ["env", f"PYTHONPATH={ROOT / '.venv' / 'oldest'}:{ROOT}"] if release == OLDEST else []
            how = {"database": database.kind, "pre_ping": ping, "ways": ways}
            return play("lab.scenes.task_cancelled", under=under, patience=240, engine=engine, **how)

        return {(*key,): [played(*key, ways) for _ in range(count)] for key, ways in plays.items()}
