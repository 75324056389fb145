"""The recipe staleness_probe: does it name each cause of an old value, and does asking change anything?"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.replica import replica
from lab.scenes.probe import CALLS, CAUSES, STAGE
from lab.scenes.staleness import WAL
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.probe"
USES = ["lab/scenes/probe.py", "lab/scenes/staleness.py", "recipes/staleness_probe.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL", "sqlite": "sqlite"}
# Another one than the primary's own columns: the judge's swap goes by driver, and these have rows of their own.
STANDBY = "psycopg2"
RECIPE = "staleness_probe"
SNAPSHOT = ("REPEATABLE READ", WAL)
LEVELS = {
    "postgresql": ("READ COMMITTED", "REPEATABLE READ"),
    "mariadb": ("READ COMMITTED", "REPEATABLE READ"),
    "sqlite": ("driver's default", WAL),
}
SINCE, GONE = "a commit since it was read", "its row deleted since"
NAMES = {
    "an object held from before": "held object",
    "the same, no transaction": "held object",
    "an attribute set": "unflushed change",
    "a flush": "uncommitted change",
    "an update()": "uncommitted change",
    "nobody has committed": "not committed yet",
    "nothing": "fresh",
}
LAGS = {"a replica that lags": "replica", "the same, no truth given": "fresh", "nothing": "fresh"}
SAME = "no difference"


@experiment("staleness-probe-names-the-cause", seeds=["I3"], uses=[*USES, "lab/replica.py"])
def names_the_cause(effort: Effort) -> Iterator[Arm]:
    """Facts: for each thing that was made to happen, what the check says of the object."""
    for kind, levels in LEVELS.items():
        for isolation in levels:
            found = functools.partial(_named, kind, isolation, effort.pick(5, 1))
            snapshot = isolation in SNAPSHOT
            # A query finds no row where it was deleted, and there is a difference to see.
            unseen = dict.fromkeys([name for name in CAUSES if snapshot or name != GONE], SAME)
            yield _arm(kind, isolation, "select(Entity)", "hazard", unseen, found)
            seen = dict.fromkeys(list(NAMES)[:2], "a difference")
            since = dict.fromkeys((SINCE, GONE), SAME if snapshot else "a difference")
            others = dict.fromkeys(list(NAMES)[2:], SAME)
            yield _arm(kind, isolation, "text()", "hazard", seen | since | others, found)
            since = dict.fromkeys((SINCE, GONE), "snapshot" if snapshot else "held object")
            yield _arm(kind, isolation, RECIPE, "remedy", NAMES | since, found)
    for check in ("select(Entity)", "text()", RECIPE):
        role: Role = "remedy" if check == RECIPE else "hazard"
        expected = LAGS if check == RECIPE else dict.fromkeys(LAGS, SAME)
        found = functools.partial(_lagging, effort.pick(5, 1))
        yield _arm("postgresql", "", check, role, expected, found, STANDBY)


@experiment("staleness-probe-changes-nothing", uses=USES)
def changes_nothing(effort: Effort) -> Iterator[Arm]:
    """Facts: what is "as before", what is "changed", and "error" where the call raised."""
    unlike = {
        "refresh()": ("the transaction", "unflushed work", "the identity map", "what is sent on it", "no transaction"),
        "select(Entity)": ("the transaction", "unflushed work", "the identity map", "what is sent on it"),
        "rollback()": ("the transaction", "the objects", "unflushed work"),
    }
    alike = ("the transaction", "the objects", "unflushed work", "the identity map", "the pool", "no transaction")
    for kind, levels in LEVELS.items():
        for isolation in levels:
            for call in CALLS:
                role: Role = "remedy" if call == "diagnose()" else "hazard"
                checks = [Check(name, "!=", "as before") for name in unlike.get(call, ())]
                if role == "remedy":
                    checks = [Check(name, "==", "as before") for name in alike]
                    checks.append(Check("what is sent on it", "==", "reads"))
                it = Setup(kind, DRIVERS[kind], isolation=isolation, read=call)

                def run(kind: str = kind, isolation: str = isolation, call: str = call) -> list[Trial]:
                    return _trials(played(kind, effort.pick(5, 1))["kept"][isolation][call])

                yield arm(f"{kind}, {isolation}, {call}", role, it, checks, run)


def _arm(
    kind: str,
    isolation: str,
    check: str,
    role: Role,
    expected: Mapping[str, str],
    found: Callable[[], Mapping[str, Any]],
    standby: str = "",
) -> Arm:
    server = {"server": "standby"} if standby else {}
    it = Setup(kind, standby or DRIVERS[kind], isolation=isolation, read=check, **server)
    checks = [Check(name, "==", word) for name, word in expected.items()]
    title = ", ".join(filter(None, (kind, isolation or "standby", check)))
    return arm(title, role, it, checks, lambda: _trials(found()[check]))


def _trials(rows: list[dict[str, Any]]) -> list[Trial]:
    return [Trial(facts=row) for row in rows]


def _named(kind: str, isolation: str, trials: int) -> Mapping[str, Any]:
    return played(kind, trials)["named"][isolation]


@functools.cache
def played(kind: str, trials: int) -> dict[str, Any]:
    """What :func:`lab.scenes.probe.main` saw of a database."""
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return play(SCENE, engine=engine, isolations=LEVELS[kind], trials=trials, patience=240)


@functools.cache
def _lagging(trials: int) -> Mapping[str, Any]:
    load(STANDBY)
    with replica() as pair:
        for statement in STAGE:
            pair.primary.ask(statement)
        primary, standby = (arguments(STANDBY, one) for one in (pair.primary, pair.standby))
        with pair.held():
            return play(SCENE, engine=primary, standby=standby, isolations=[], trials=trials)["named"]
