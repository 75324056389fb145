"""An object that one request keeps for the next, in a global or a cache: what the next one reads and writes."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.topic_kept"
USES = ["lab/scenes/topic_kept.py", "lab/scenes/staleness.py"]
DRIVERS = {"postgresql": "psycopg2", "mariadb": "PyMySQL"}
PLAIN, COUNTED = "plain", "version counter"
CLOSED, EXPIRED, OPEN, KEY = (
    "object, closed",
    "object, committed and closed",
    "object, Session left open",
    "primary key",
)
BY_KEY = "get() by the key"
FRESH = {"read": 500, "stored": 500, "paid": 510, "raises": ""}
PLAYS = [
    *((PLAIN, keep, "as it is") for keep in (CLOSED, EXPIRED, OPEN)),
    (PLAIN, EXPIRED, "add()"),
    *((PLAIN, CLOSED, take) for take in ("add()", "add(), refresh()", BY_KEY)),
    *((kind, CLOSED, take) for kind in (PLAIN, COUNTED) for take in ("merge(load=False)", "merge()")),
    (PLAIN, CLOSED, "loaded before, merge(load=False)"),
    (PLAIN, EXPIRED, "merge(load=False)"),
    (PLAIN, KEY, BY_KEY),
    (COUNTED, KEY, BY_KEY),
]
DETACHED = "sqlalchemy.orm.exc.DetachedInstanceError"
REFUSED = "sqlalchemy.orm.exc.StaleDataError"


@experiment("kept-object-in-a-global", uses=USES)
def in_a_global(effort: Effort) -> Iterator[Arm]:
    """Facts: those of the scene; ``raises`` names the uses that raised, with what."""
    lost = {"stored": 500, "paid": 500, "lazy": None, "held": 0, "raises": f"lazy: {DETACHED}"}
    gone = {"read": None, "lazy": None, "held": 0, "raises": f"lazy: {DETACHED}, paid: {DETACHED}, read: {DETACHED}"}
    yield from _arms("hazard", PLAIN, CLOSED, "as it is", {"read": 100, **lost}, effort)
    yield from _arms("hazard", PLAIN, EXPIRED, "as it is", gone, effort)
    left = {"read": 100, "stored": 500, "paid": 500, "lazy": 1, "held": 1, "raises": ""}
    yield from _arms("hazard", PLAIN, OPEN, "as it is", left, effort)
    stale = {"read": 100, "stored": 500, "paid": 110, "lazy": 1, "held": 0, "raises": ""}
    yield from _arms("hazard", PLAIN, CLOSED, "add()", stale, effort)
    fresh = {**FRESH, "lazy": 1, "held": 0}
    yield from _arms("control", PLAIN, EXPIRED, "add()", fresh, effort)
    for keep, take in ((CLOSED, "add(), refresh()"), (CLOSED, BY_KEY), (KEY, BY_KEY)):
        yield from _arms("remedy", PLAIN, keep, take, fresh, effort)


@experiment("kept-object-merge-load-false", uses=USES)
def merge_load_false(effort: Effort) -> Iterator[Arm]:
    """Facts: those of the scene; ``raises`` names the uses that raised, with what."""
    stale = {"selects": 0, "read": 100, "stored": 500, "paid": 110, "raises": ""}
    yield from _arms("hazard", PLAIN, CLOSED, "merge(load=False)", stale, effort)
    yield from _arms("hazard", PLAIN, CLOSED, "loaded before, merge(load=False)", {**stale, "selects": 1}, effort)
    seen = {"selects": 0, "read": 100, "stored": 500, "paid": None, "raises": f"paid: {REFUSED}"}
    yield from _arms("hazard", COUNTED, CLOSED, "merge(load=False)", seen, effort)
    yield from _arms("control", PLAIN, EXPIRED, "merge(load=False)", {**FRESH, "selects": 0}, effort)
    for kind in (PLAIN, COUNTED):
        yield from _arms("remedy", kind, KEY, BY_KEY, {**FRESH, "selects": 1}, effort)


@experiment("kept-object-merge-writes-it-back", uses=USES)
def merge_writes_it_back(effort: Effort) -> Iterator[Arm]:
    """Facts: those of the scene; ``raises`` names the uses that raised, with what."""
    back = {"selects": 1, "read": 100, "stored": 100, "paid": 110, "raises": ""}
    yield from _arms("hazard", PLAIN, CLOSED, "merge()", back, effort)
    each = f"lazy: {REFUSED}, paid: {REFUSED}, read: {REFUSED}"
    yield from _arms("control", COUNTED, CLOSED, "merge()", {"read": None, "stored": 500, "raises": each}, effort)
    yield from _arms("remedy", PLAIN, CLOSED, "add(), refresh()", FRESH, effort)
    yield from _arms("remedy", PLAIN, KEY, BY_KEY, FRESH, effort)


def _arms(role: Role, kind: str, keep: str, take: str, values: Mapping[str, Any], effort: Effort) -> Iterator[Arm]:
    checks = [Check(name, "==", value) for name, value in values.items() if value is not None]
    for database, driver in DRIVERS.items():
        setup = Setup(database, driver, held=keep, read=take, remedy="" if kind == PLAIN else kind)
        run = functools.partial(_trials, database, (kind, keep, take), effort)
        counted = [kind] if kind == COUNTED else []
        yield arm(", ".join([driver, *counted, keep, take]), role, setup, checks, run)


def _trials(database: str, play_: tuple[str, str, str], effort: Effort) -> list[Trial]:
    trials = []
    for seen in _played(database, effort.pick(5, 1))[PLAYS.index(play_)]:
        raises = ", ".join(f"{use}: {what.partition(':')[0]}" for use, what in sorted(seen["raised"].items()))
        trials.append(Trial(facts={**seen, "raises": raises}))
    return trials


@functools.cache
def _played(database: str, trials: int) -> list[list[dict[str, Any]]]:
    with start(database) as running:
        return play(SCENE, engine=arguments(DRIVERS[database], running), plays=PLAYS, trials=trials)
