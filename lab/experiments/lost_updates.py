"""Two correct Sessions add 10 to one balance: which ways lose an acknowledged update, and where.

One run plays all ways on a database; the claims look at it from several sides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.components import Missing
from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.lost_stage import SNAPSHOT
from lab.scenes.lost_updates import (
    AGAIN,
    ATTRIBUTE,
    EXPIRED,
    EXPRESSION,
    HELD,
    IN_TURN,
    LOCKED,
    NAIVE,
    POPULATED,
    REFRESHED,
    SCOPED,
    VERSION,
    VERSION_AGAIN,
)
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.lost_updates"
USES = ["lab/scenes/lost_updates.py", "lab/scenes/lost_stage.py", "recipes/retry_transaction.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL", "sqlite": "sqlite"}
LEVELS = {
    "postgresql": ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "AUTOCOMMIT"),
    "mariadb": ("READ COMMITTED", "REPEATABLE READ", f"REPEATABLE READ{SNAPSHOT}", "SERIALIZABLE", "AUTOCOMMIT"),
    "sqlite": ("driver's default", "BEGIN", "BEGIN IMMEDIATE"),
}
COLUMNS = [(kind, level) for kind, levels in LEVELS.items() for level in levels]
# By column what is expected: lost, error, right; a dot where it is not played. A way to read once more is not played
# where nothing keeps the other's commit from coming before it.
EXPECTED = {
    NAIVE: "leel lleel ler",
    IN_TURN: "rrrr rrrrr rrr",
    SCOPED: "l... ll... l..",
    EXPIRED: "l... ll... ...",
    REFRESHED: "l... ll... ...",
    EXPRESSION: "reer rrrrr rrr",
    ATTRIBUTE: "reer rreer rer",
    LOCKED: "reel rrrrl ler",
    HELD: "lee. llee. ler",
    POPULATED: "ree. rree. .er",
    VERSION: "eeee eeeee eer",
    VERSION_AGAIN: "rrrr rrrrr rrr",
    AGAIN: "lrrl llrrl lrr",
}
# The balance in the end, and how many of the two were told that theirs is committed.
MEANS = {"l": (110, 2), "r": (120, 2), "e": (110, 1)}
Roles = Mapping[str, Mapping[str, Role]]


@experiment("lost-update-naive", uses=USES)
def naive(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, {NAIVE: {"l": "hazard", "e": "control", "r": "control"}, IN_TURN: {"r": "control"}})


@experiment("lost-update-reading-again-does-not-help", uses=USES)
def no_help(effort: Effort) -> Iterator[Arm]:
    loses: dict[str, Role] = {"l": "hazard"}
    yield from _arms(effort, {SCOPED: loses, EXPIRED: loses, REFRESHED: loses, POPULATED: {"r": "remedy"}})


@experiment("lost-update-expression-cures", uses=USES)
def expression(effort: Effort) -> Iterator[Arm]:
    cures = {"r": "remedy", "e": "control"}
    yield from _arms(effort, {NAIVE: {"l": "hazard"}, EXPRESSION: cures, ATTRIBUTE: cures})


@experiment("lost-update-for-update-cures", uses=USES)
def for_update(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, {NAIVE: {"l": "hazard"}, LOCKED: {"r": "remedy", "e": "control"}})


@experiment("lost-update-for-update-in-vain", uses=USES)
def for_update_in_vain(effort: Effort) -> Iterator[Arm]:
    held = {"l": "hazard", "e": "control", "r": "control"}
    yield from _arms(effort, {HELD: held, LOCKED: {"l": "hazard"}, POPULATED: {"r": "remedy", "e": "control"}})


@experiment("lost-update-version-id-detects", uses=USES)
def version_id(effort: Effort) -> Iterator[Arm]:
    found = {"e": "remedy", "r": "control"}
    yield from _arms(effort, {NAIVE: {"l": "hazard"}, VERSION: found, VERSION_AGAIN: {"r": "remedy"}})


@experiment("lost-update-serializable-retry-cures", uses=USES)
def serializable(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, {NAIVE: {"e": "hazard"}, AGAIN: {"l": "hazard", "r": "remedy"}})


def _arms(effort: Effort, roles: Roles) -> Iterator[Arm]:
    """Facts: ``balance`` in the end, ``acknowledged`` of the two, ``attempts`` that it took; the outcome by way."""
    for way, by_letter in roles.items():
        for (kind, level), letter in _expected(way).items():
            if letter not in by_letter:
                continue
            balance, acknowledged = MEANS[letter]
            checks = [Check("balance", "==", balance), Check("acknowledged", "==", acknowledged)]
            it = Setup(kind, DRIVERS[kind], isolation=level, remedy=way)
            run = functools.partial(_trials, effort, kind, level, way)
            yield arm(f"{kind}, {level}, {way}", by_letter[letter], it, checks, run)


def _expected(way: str) -> dict[tuple[str, str], str]:
    return dict(zip(COLUMNS, EXPECTED[way].replace(" ", ""), strict=True))


def _trials(effort: Effort, kind: str, level: str, way: str) -> list[Trial]:
    played = _played(kind, effort.pick(5, 1))
    if level not in played:
        raise Missing("this MariaDB has no innodb_snapshot_isolation; 10.11.8 and 11.4.2, for example, have it")
    facts = ("balance", "acknowledged", "attempts", "default")
    return [
        Trial(facts={way: seen["outcome"], "says": {way: seen["messages"]}, **{name: seen[name] for name in facts}})
        for seen in played[level][way]
    ]


@functools.cache
def _played(kind: str, trials: int) -> dict[str, Any]:
    with start(kind) as database:
        plays = {level: [way for way in EXPECTED if _expected(way)[kind, level] != "."] for level in LEVELS[kind]}
        default = ""
        if kind == "mariadb":
            setting = database.ask("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
            if not setting:
                del plays[f"REPEATABLE READ{SNAPSHOT}"]
            default = setting[0][1] if setting else "unknown"
        how = {"engine": arguments(DRIVERS[kind], database), "plays": plays, "trials": trials}
        found = play(SCENE, **how, patience=400)
    # The release's default of innodb_snapshot_isolation belongs to what was seen.
    return {
        level: {way: [{**seen, "default": default} for seen in all_] for way, all_ in ways.items()}
        for level, ways in found.items()
    }
