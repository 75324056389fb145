"""One engine and several event loops: which driver fails, how, and which remedy is quiet (T6)."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.loop_twice import (
    AT_END,
    AT_START,
    CLOSE_FALSE,
    EACH,
    MOMENTS,
    NULL,
    ONE_LOOP,
    PING,
    PLAIN,
    WAYS,
)
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

DRIVERS = ("asyncpg", "psycopg async", "asyncmy")
USES = ["lab/scenes/loop_twice.py", "lab/scenes/task_common.py"]
ONE, FULL = MOMENTS
LOUD = {AT_START: ("asyncpg", "asyncmy"), CLOSE_FALSE: DRIVERS}
DIFFERENT, CLOSED = "attached to a different loop", "Event loop is closed"


@experiment("loop-one-engine-in-two", seeds=["T6"], uses=USES)
def two_loops(effort: Effort) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(3, 2)]:
        for way in WAYS:
            hazard = way in (PLAIN, PING)
            alone = "error" if hazard and name != "psycopg async" else "right"
            words = {f"{name}, {ONE}": alone, f"{name}, {FULL}": "error" if hazard else "right"}
            checks = [Check(row, "==", word) for row, word in words.items()]
            yield _arm(effort, name, way, "hazard" if hazard else "remedy", checks)


@experiment("loop-dispose-is-quiet", seeds=["T6"], uses=USES)
def quiet(effort: Effort) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(3, 2)]:
        for way in (AT_END, NULL, EACH, ONE_LOOP, AT_START, CLOSE_FALSE):
            loud = name in LOUD.get(way, ())
            role: Role = "hazard" if loud else "control" if way == AT_START else "remedy"
            left = Check("left", "==", 1 if way in (AT_START, CLOSE_FALSE) else 0)
            checks = [Check("error", "==", 0), Check("lines", ">=" if loud else "==", 1 if loud else 0), left]
            yield _arm(effort, name, way, role, checks)


def _arm(effort: Effort, name: str, way: str, role: Role, checks: list[Check]) -> Arm:
    it = Setup(driver(name).database, name, remedy=way, moment="asyncio.run, three times")
    run = functools.partial(_trials, name, way, effort.pick(3, 1))
    return arm(f"{way}, {name}", role, it, checks, run)


def _trials(name: str, way: str, count: int) -> Iterator[Trial]:
    """Facts: a word for each moment; of one task in each job its outcome, ``said`` and ``lines``, ``left``."""
    for played in _played(driver(name).database, count)[name]:
        row = played[way]
        outcomes = [Outcome(each["kind"], each.get("message", "")) for job in row[ONE]["jobs"] for each in job]
        facts: dict[str, Any] = {f"{name}, {moment}": _worst(row[moment]["jobs"]) for moment in MOMENTS}
        says = {f"{name}, {moment}": _first(row[moment]["jobs"]) for moment in MOMENTS}
        jobs = {f"job {number}": outcome.kind for number, outcome in enumerate(outcomes, 1)}
        said, left = row[ONE]["said"], row[ONE]["left"]
        facts |= {**jobs, "says": says, "said": said, "lines": len(said), "left": left, "opened": row[ONE]["opened"]}
        yield Trial(Tally.of(outcomes), facts={**facts, "noise": "; ".join(said) or "nothing"})


def _worst(jobs: list[list[dict[str, str]]]) -> str:
    kinds = {each["kind"] for job in jobs for each in job}
    return next(kind for kind in ("wrong", "error", "right") if kind in kinds)


def _first(jobs: list[list[dict[str, str]]]) -> str:
    return next((each["message"] for job in jobs for each in job if "message" in each), "")


@functools.cache
def _played(kind: str, count: int) -> dict[str, list[dict[str, Any]]]:
    with start(kind) as database:
        names = [name for name in DRIVERS if driver(name).database == kind]
        how = {"database": kind, "ways": WAYS, "patience": 240}
        engines = {name: arguments(name, database) for name in names}
        return {
            name: [play("lab.scenes.loop_twice", engine=engines[name], **how) for _ in range(count)] for name in names
        }
