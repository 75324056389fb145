"""How many acknowledged additions are lost when nothing is arranged, and what it costs to lose none."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.lost_wild import AGAIN, EXPRESSION, LOCKED, NAIVE, VERSION
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/scenes/lost_wild.py", "lab/scenes/lost_stage.py", "recipes/retry_transaction.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL"}
DEFAULT = {"postgresql": "READ COMMITTED", "mariadb": "REPEATABLE READ"}
THREADS = 10
Play = tuple[str, str, int]


@experiment("lost-update-wild", uses=USES)
def wild(effort: Effort) -> Iterator[Arm]:
    """Facts: ``acknowledged`` additions, of these the ``lost``; those ``refused``; ``attempts`` and ``statements`` for
    each acknowledged one; ``messages`` of the refused, with their counts.
    """
    additions = THREADS * effort.pick(20, 10)
    for kind, driver in DRIVERS.items():
        for nth, (way, level, rows) in enumerate(_plays(kind, effort)):
            role: Role = "hazard" if way == NAIVE else "remedy"
            checks = [Check("lost", ">=", 1, "some") if role == "hazard" else Check("lost", "==", 0)]
            if way in (NAIVE, EXPRESSION, LOCKED):
                checks.append(Check("acknowledged", "==", additions))
            on = f"{rows} row{'s' if rows > 1 else ''}"
            it = Setup(kind, driver, isolation=level, remedy=way, request=on, threads=THREADS, requests=additions)
            run = functools.partial(_trials, kind, effort, nth)
            yield arm(f"{kind}, {level}, {way}, {on}", role, it, checks, run)


def _plays(kind: str, effort: Effort) -> list[Play]:
    levels = {AGAIN: "SERIALIZABLE"}
    rows = (1, 10)[: effort.pick(2, 1)]
    return [
        (way, levels.get(way, DEFAULT[kind]), n) for n in rows for way in (NAIVE, EXPRESSION, LOCKED, VERSION, AGAIN)
    ]


def _trials(kind: str, effort: Effort, nth: int) -> list[Trial]:
    return [Trial(facts=seen) for seen in _played(kind, effort)[nth]]


@functools.cache
def _played(kind: str, effort: Effort) -> list[list[dict[str, Any]]]:
    load = {"threads": THREADS, "each": effort.pick(20, 10), "trials": effort.pick(5, 1)}
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return play("lab.scenes.lost_wild", engine=engine, plays=_plays(kind, effort), **load, patience=400)
