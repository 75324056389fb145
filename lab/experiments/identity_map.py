"""What the identity map keeps, and what passes it by: reads, the collector, commits, bulk updates, expiry."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.experiments.staleness import BY_IDENTITY, BY_VALUE, DEFAULT, DRIVERS, facts, told_once
from lab.process import play
from lab.scenes.expiry import STEPS, SYNCHRONIZED
from lab.scenes.identity_map import CASES
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

SCENE = "lab.scenes.identity_map"
USES = ["lab/scenes/identity_map.py", "lab/scenes/expiry.py", "lab/scenes/staleness.py", "lab/experiments/staleness.py"]
# A committed level for what the snapshot would hide, and the server's own.
LEVELS = {
    "postgresql": ("READ COMMITTED", "REPEATABLE READ"),
    "mariadb": ("READ COMMITTED", "REPEATABLE READ"),
    "sqlite": ("driver's default",),
}
BY_LEVEL = ("expire_on_commit", "expire_all")


@experiment("stale-queries-are-executed", seeds=["I4"], uses=USES)
def queries_are_executed(effort: Effort) -> Iterator[Arm]:
    """Facts: ``value`` is what was read, ``sent`` what the database sent, ``compared`` how often values were compared,
    ``refreshed`` whether the object took it.
    """
    ignored = {"value": "old", "compared": 0, "refreshed": False}
    wanted: list[tuple[str, Role, dict[str, Any]]] = [
        ("select(Entity)", "hazard", ignored | {"statements": 1, "sent": "new"}),
        ("get()", "hazard", ignored | {"statements": 0, "sent": "nothing"}),
        ("populate_existing", "control", {"value": "new", "statements": 1, "sent": "new", "refreshed": True}),
    ]
    for kind in DRIVERS:
        for read, role, values in wanted:
            setup = Setup(kind, DRIVERS[kind], isolation=LEVELS[kind][0], read=read)
            yield _cells(effort, "executed", read, role, values, setup)
        # That comparisons are counted at all.
        read = "the same value assigned, flush()"
        setup = Setup(kind, DRIVERS[kind], isolation=LEVELS[kind][0], read=read)
        run = functools.partial(_seen, effort, kind, "executed", read)
        yield arm(f"{kind}, {read}", "control", setup, [Check("compared", ">=", 1), Check("statements", "==", 0)], run)


@experiment("stale-reference-cycle", seeds=["I3"], uses=USES)
def reference_cycle(effort: Effort) -> Iterator[Arm]:
    kept, gone = {"in_map": 1, "outcome": "old"}, {"in_map": 0, "outcome": "new"}
    wanted: list[tuple[str, Role, dict[str, Any]]] = [
        ("in a cycle, dropped", "hazard", kept),
        ("changed, dropped, gc.collect()", "hazard", {"in_map": 1}),
        ("plain, dropped", "control", gone),
        ("in a cycle, dropped, gc.collect()", "remedy", gone),
    ]
    for kind in DRIVERS:
        for name, role, values in wanted:
            setup = Setup(kind, DRIVERS[kind], isolation=LEVELS[kind][0], moment=name)
            yield _cells(effort, "cycle", name, role, values, setup)


@experiment("stale-expire-on-commit-false", seeds=["I3"], uses=USES)
def expire_on_commit(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        own = DEFAULT.get(kind, LEVELS[kind][0])
        for expires, role in (("False", "hazard"), ("True", "control")):
            words = dict.fromkeys((*BY_IDENTITY, *BY_VALUE), "new")
            words |= dict.fromkeys(BY_IDENTITY, "old") if role == "hazard" else {}
            setup = Setup(kind, DRIVERS[kind], isolation=own, moment=f"expire_on_commit={expires}")
            yield _reads(effort, "expire_on_commit", expires, role, words, setup)


@experiment("stale-bulk-update", uses=USES)
def bulk_update(effort: Effort) -> Iterator[Arm]:
    ways: dict[str, Role] = {
        "synchronize_session=False": "hazard",
        "the table's update()": "hazard",
        "text()": "hazard",
    }
    ways |= {f"synchronize_session={how!r}": "remedy" for how in SYNCHRONIZED if how}
    for kind in DRIVERS:
        for way, role in ways.items():
            words = dict.fromkeys((*BY_IDENTITY, *BY_VALUE, "commit(), attribute"), "new")
            words |= dict.fromkeys(BY_IDENTITY, "old") if role == "hazard" else {}
            setup = Setup(kind, DRIVERS[kind], isolation=LEVELS[kind][0], moment=way)
            yield _reads(effort, "bulk", way, role, words, setup)


@experiment("stale-expire-all-per-isolation", seeds=["I5"], uses=USES)
def expire_all(effort: Effort) -> Iterator[Arm]:
    roles: dict[str, Role] = dict(zip(STEPS, ("hazard", "control", "hazard", "remedy"), strict=True))
    words = {"none": ("old", "old"), "expire_all()": ("new", "old"), "transaction ended": ("old", "old")}
    for kind in ("postgresql", "mariadb"):
        for step, role in roles.items():
            found = dict(zip(LEVELS[kind], words.get(step, ("new", "new")), strict=True))
            setup = Setup(kind, DRIVERS[kind], remedy=step, read="attribute")
            name = f"{kind}, {'nothing done' if step == 'none' else step}"
            yield arm(name, role, setup, _checks(found), functools.partial(_by_level, effort, kind, step))


@experiment("session-has-no-invalidate-on-scoped", uses=USES)
def invalidate(effort: Effort) -> Iterator[Arm]:
    for name, role, values in (
        ("scoped_session", "hazard", {"error": 1, "given_up": False, "in_transaction": True}),
        ("the Session in it", "control", {"right": 1, "given_up": True, "in_transaction": False}),
    ):
        setup = Setup("sqlite", DRIVERS["sqlite"], isolation=LEVELS["sqlite"][0], moment=f"invalidate() of {name}")
        yield _cells(effort, "invalidate", name, role, values, setup)


def _cells(effort: Effort, case: str, name: str, role: Role, values: Mapping[str, Any], setup: Setup) -> Arm:
    run = functools.partial(_seen, effort, setup.database, case, name)
    return arm(f"{setup.database}, {name}", role, setup, _checks(values), run)


def _seen(effort: Effort, kind: str, case: str, name: str) -> list[Trial]:
    """What one way to do it came to, trial by trial."""
    trials = []
    for seen in (trial[name] for trial in _played(kind, effort.pick(5, 1))[LEVELS[kind][0]][case]):
        tally = Tally.of([Outcome(seen["outcome"], seen["message"])]) if "message" in seen else Tally()
        sql = {"sql": {"value": seen["sql"] or ["no SQL"]}} if "sql" in seen else {}
        counted = {field: value for field, value in seen.items() if field not in ("sql", "message")}
        trials.append(Trial(tally, facts=counted | sql))
    return trials


def _reads(effort: Effort, case: str, name: str, role: Role, words: Mapping[str, str], setup: Setup) -> Arm:
    def run() -> list[Trial]:
        levels = _played(setup.database, effort.pick(5, 1))
        return told_once(facts(trial[name]) for trial in levels[setup.isolation][case])

    return arm(f"{setup.database}, {setup.moment}", role, setup, _checks(words), run)


def _by_level(effort: Effort, kind: str, step: str) -> list[Trial]:
    levels = _played(kind, effort.pick(5, 1))
    trials = zip(*(levels[level]["expire_all"] for level in LEVELS[kind]), strict=True)
    return told_once(
        facts({level: seen[step] for level, seen in zip(LEVELS[kind], trial, strict=True)}) for trial in trials
    )


def _checks(values: Mapping[str, Any]) -> Sequence[Check]:
    return [Check(name, "==", value) for name, value in values.items()]


@functools.cache
def _played(kind: str, trials: int) -> dict[str, Any]:
    """All cases of a database, by isolation."""
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        how = {"engine": engine, "trials": trials, "patience": 240}
        first, *others = LEVELS[kind]
        levels = {first: play(SCENE, isolation=first, cases=list(CASES), **how)}
        return levels | {level: play(SCENE, isolation=level, cases=BY_LEVEL, **how) for level in others}
