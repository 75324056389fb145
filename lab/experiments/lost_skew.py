"""Write skew: what each writes is not what the other writes, and still both together are wrong."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.lost_skew import AGAIN, LOCKED, NAIVE, VERSION
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/scenes/lost_skew.py", "lab/scenes/lost_stage.py", "recipes/retry_transaction.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL"}
LEVELS = {
    "postgresql": ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
    "mariadb": ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"),
}
COLUMNS = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
# By column: lost, where both take; one takes and the other is refused by an error, or is right and declines.
EXPECTED = {NAIVE: "lle lle", VERSION: "lle lle", LOCKED: "ree rrr", AGAIN: "llr llr"}
# What is left, how many took and how many declined.
MEANS = {"l": (0, 2, 0), "e": (100, 1, 0), "r": (100, 1, 1)}
WORDS = {"l": "lost", "e": "error", "r": "right"}


@experiment("lost-update-write-skew", uses=USES)
def write_skew(effort: Effort) -> Iterator[Arm]:
    """Facts: ``left`` in both accounts, how many ``took`` and ``declined``; the outcome by way."""
    for way, letters in EXPECTED.items():
        for (kind, level), letter in zip(COLUMNS, letters.replace(" ", ""), strict=True):
            role: Role = "hazard" if letter == "l" else "remedy"
            left, took, declined = MEANS[letter]
            checks = [Check("left", "==", left), Check("took", "==", took), Check("declined", "==", declined)]
            it = Setup(kind, DRIVERS[kind], isolation=level, remedy=way)
            run = functools.partial(_trials, effort, kind, level, way)
            yield arm(f"{kind}, {level}, {way}", role, it, checks, run)


def _trials(effort: Effort, kind: str, level: str, way: str) -> list[Trial]:
    return [
        Trial(facts={**seen, way: _word(seen), "says": {way: seen["messages"]}})
        for seen in _played(kind, effort.pick(5, 1))[level][way]
    ]


def _word(seen: dict[str, Any]) -> str:
    told = (seen["left"], seen["took"], seen["declined"])
    return next((WORDS[letter] for letter, means in MEANS.items() if means == told), "something else")


@functools.cache
def _played(kind: str, trials: int) -> dict[str, Any]:
    plays = {level: list(EXPECTED) for level in LEVELS[kind]}
    with start(kind) as database:
        how = {"engine": arguments(DRIVERS[kind], database), "plays": plays, "trials": trials}
        return play("lab.scenes.lost_skew", **how, patience=200)
