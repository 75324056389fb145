"""A lock of Python's around a read and a write: within its process it helps."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL"}
NAIVE, EXPRESSION = "threading.Lock, x.balance += 10", "threading.Lock, update().values(balance + 10)"
# By way and number of processes: what is stored, and how the second adder finds its lock.
EXPECTED: dict[tuple[str, int], tuple[Role, int, str]] = {
    (NAIVE, 2): ("hazard", 110, "free"),
    (NAIVE, 1): ("control", 120, "taken"),
    (EXPRESSION, 2): ("remedy", 120, "free"),
}


@experiment("lost-update-lock-per-process", uses=["lab/scenes/lost_processes.py", "lab/scenes/lost_stage.py"])
def lock_per_process(effort: Effort) -> Iterator[Arm]:
    """Facts: ``balance`` in the end; ``lock``, how the second found its lock while the first held its own."""
    for kind in list(DRIVERS)[: effort.pick(2, 1)]:
        for (way, processes), (role, balance, lock) in EXPECTED.items():
            checks = [Check("balance", "==", balance), Check("lock", "==", lock)]
            it = Setup(kind, DRIVERS[kind], remedy=way, workers=processes)
            run = functools.partial(_trials, effort, kind, way, processes)
            yield arm(f"{kind}, {way}, {processes} process{'es' if processes > 1 else ''}", role, it, checks, run)


def _trials(effort: Effort, kind: str, way: str, processes: int) -> list[Trial]:
    return [Trial(facts=seen) for seen in _played(effort, kind)[list(EXPECTED).index((way, processes))]]


@functools.cache
def _played(effort: Effort, kind: str) -> list[list[dict[str, Any]]]:
    plays = [(processes, way == EXPRESSION) for way, processes in EXPECTED]
    with start(kind) as database:
        how = {"plays": plays, "trials": effort.pick(5, 1), "patience": 400}
        return play("lab.scenes.lost_processes", engine=arguments(DRIVERS[kind], database), **how)
