"""Arms out of the scenes in which requests meet hazards: one for each remedy and database, its rows the hazards."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

DRIVERS = ("psycopg2", "PyMySQL", "sqlite")
SHARED = ["lab/hazards.py", "lab/pages.py", "lab/requestgrid.py", "lab/wsgi.py", "lab/apps/streamed.py"]


@functools.cache
def played(scene: str, name: str, remedies: Sequence[str], count: int, flask: str = "") -> list[dict[str, Any]]:
    """Play *scene* so many times with the driver *name*; claims that rest on the same runs share them.

    Raises:
        components.Missing: the database or its driver is not there.
    """
    more = {"flask": flask} if flask else {}
    with start(driver(name).database) as database:
        engine = arguments(name, database)
        how = {"arguments": engine, "database": database.kind, "remedies": remedies, **more}
        return [play(scene, patience=120, **how) for _ in range(count)]


def trial(rows: Mapping[str, Mapping[str, Any]]) -> Trial:
    """A trial whose facts are the outcomes of all hazards, and what each was told by."""
    facts: dict[str, Any] = {name: row["outcome"] for name, row in rows.items()}
    return Trial(facts={**facts, "says": {name: row["says"] for name, row in rows.items() if row["says"]}})


def arms(
    scene: str,
    framework: str,
    remedies: Sequence[str],
    effort: Effort,
    expected: Mapping[str, tuple[Role, Mapping[str, str]]],
    drivers: Sequence[str] = DRIVERS,
) -> Iterator[Arm]:
    """The arms that a claim rests on.

    Args:
        remedies: all that the scene plays.
        expected: by remedy, its role in the claim, and the outcomes that this demands by hazard.
    """
    for name in drivers:
        for remedy, (role, outcomes) in expected.items():
            it = Setup(driver(name).database, name, remedy=remedy, framework=framework)
            checks = [Check(hazard, "==", outcome) for hazard, outcome in outcomes.items()]
            yield arm(
                f"{remedy}, {name}", role, it, checks, functools.partial(_trials, scene, name, remedies, effort, remedy)
            )


def _trials(scene: str, name: str, remedies: Sequence[str], effort: Effort, remedy: str) -> list[Trial]:
    return [trial(got[remedy]) for got in played(scene, name, remedies, effort.pick(5, 1))]
