"""The recipe fresh_reads: new or a clear error at every isolation, and no work lost for it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.experiments.staleness import DRIVERS, facts, told_once
from lab.process import play
from lab.scenes.fresh_reads import NOT_IN_SQLITE, READS_ONLY, WORK
from lab.scenes.staleness import WAL
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.fresh_reads"
USES = [
    "lab/scenes/fresh_reads.py",
    "lab/scenes/staleness.py",
    "lab/experiments/staleness.py",
    "recipes/fresh_reads.py",
]
RECIPE = "fresh_reads"
# The level that sees each commit, and the one that keeps a snapshot.
LEVELS = {
    "postgresql": ("READ COMMITTED", "REPEATABLE READ"),
    "mariadb": ("READ COMMITTED", "REPEATABLE READ"),
    "sqlite": ("driver's default", WAL),
}
LOCKED = {"postgresql": ("new", "error"), "mariadb": ("new", "new"), "sqlite": ("refused", "refused")}


@experiment("fresh-reads-recipe-right", seeds=["I3", "I5"], uses=USES)
def right(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        yield _read(effort, kind, "attribute", "hazard", _of_the_object("old"), _of_the_object("old"))
        yield _read(effort, kind, "select(Entity)", "hazard", {"held": "old", "released": "new"}, _both("old"))
        yield _read(effort, kind, "refresh()", "hazard", _of_the_object("new"), _of_the_object("old"))
        yield _read(effort, kind, "reread()", "remedy", _both("new"), _both("refused"))
        yield _read(effort, kind, "restart(), get()", "remedy", _both("new"), _both("new"))
        yield _read(effort, kind, "locked()", "remedy", *map(_both, LOCKED[kind]))


@experiment("fresh-reads-refuses-to-lose-work", seeds=["I5"], uses=USES)
def refuses(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        work = [name for name in WORK if kind != "sqlite" or name not in NOT_IN_SQLITE]
        for call, role, outcome in (("rollback()", "hazard", "lost"), ("restart()", "remedy", "kept")):
            checks = [Check(name, "==", "new" if name == READS_ONLY else outcome) for name in work]
            it = Setup(kind, DRIVERS[kind], remedy=RECIPE if role == "remedy" else "none", read=call)

            def run(kind: str = kind, call: str = call) -> list[Trial]:
                found = played(kind, effort.pick(5, 1))["work"]
                told = (facts(rows[call]) for rows in found)
                return told_once({name: word for name, word in each.items() if name != "sql"} for each in told)

            yield arm(f"{kind}, {call}", role, it, checks, run)


def _both(word: str) -> dict[str, str]:
    return dict.fromkeys(("held", "released"), word)


def _of_the_object(word: str) -> dict[str, str]:
    # Who has released it has no object to ask.
    return {"held": word, "released": "–"}


def _read(
    effort: Effort, kind: str, read: str, role: Role, committed: Mapping[str, str], snapshot: Mapping[str, str]
) -> Arm:
    """One read: what it answers at the level that sees each commit, and at that which keeps a snapshot."""
    expected = zip(LEVELS[kind], (committed, snapshot), strict=True)
    words = {f"{level}, {held}": word for level, by_held in expected for held, word in by_held.items()}
    it = Setup(kind, DRIVERS[kind], remedy=RECIPE if role == "remedy" else "none", read=read)

    def run() -> list[Trial]:
        return told_once(facts(rows[read]) for rows in played(kind, effort.pick(5, 1))["reads"])

    return arm(f"{kind}, {read}", role, it, [Check(place, "==", word) for place, word in words.items()], run)


@functools.cache
def played(kind: str, trials: int) -> dict[str, Any]:
    """What :func:`lab.scenes.fresh_reads.main` saw of a database."""
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return play(SCENE, engine=engine, isolations=LEVELS[kind], trials=trials, patience=240)
