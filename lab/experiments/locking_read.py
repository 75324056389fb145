"""A locking read of a loaded object: the row is locked, the new balance arrives, and which one does the caller get?"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.experiments.staleness import DRIVERS, told_once
from lab.process import play
from lab.scenes.locking_read import NOTHING_HELD, READS
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.locking_read"
USES = ["lab/scenes/locking_read.py", "lab/scenes/staleness.py", "lab/experiments/staleness.py"]
LEVELS = {"postgresql": ("READ COMMITTED",), "mariadb": ("READ COMMITTED", "REPEATABLE READ")}
ROLES: dict[str, Role] = {
    "select().with_for_update()": "hazard",
    "get(with_for_update=True)": "hazard",
    "text() FOR UPDATE": "control",
    NOTHING_HELD: "control",
}


@experiment("stale-locking-read", uses=USES)
def locking_read(effort: Effort) -> Iterator[Arm]:
    """Facts: ``read`` and ``stored``, the balance that was read and the one after 10 were added to it and committed;
    ``holds``, what was stored at the read; ``locked``, whether another connection was refused the lock.
    """
    for kind, levels in LEVELS.items():
        for level in levels:
            for read in (*READS, NOTHING_HELD):
                role = ROLES.get(read, "remedy")
                balance = 100 if role == "hazard" else 500
                values = {"read": balance, "holds": 500, "locked": True, "stored": balance + 10}
                checks = [Check(name, "==", value) for name, value in values.items()]
                held = "released" if read == NOTHING_HELD else "held"
                setup = Setup(kind, DRIVERS[kind], isolation=level, held=held, read=read)
                run = functools.partial(_trials, kind, level, read, effort)
                yield arm(f"{kind}, {level}, {read}", role, setup, checks, run)


def _trials(kind: str, level: str, read: str, effort: Effort) -> list[Trial]:
    trials = []
    for seen in _played(kind, effort.pick(5, 1))[level][read]:
        told = {"sql": {"read": seen["sql"]}, "says": {"locked": seen["locked"]}}
        trials.append({**seen, **told, "locked": bool(seen["locked"])})
    return told_once(trials)


@functools.cache
def _played(kind: str, trials: int) -> dict[str, Any]:
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        how = {"engine": engine, "trials": trials, "patience": 240}
        return {level: play(SCENE, isolation=level, **how) for level in LEVELS[kind]}
