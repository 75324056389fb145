"""The staleness grid: which read of a Session answers old, by database, isolation, and whether the object is held.

One run plays all reads of a database; the claims look at it from several sides.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.staleness import OF_THE_OBJECT, WAL
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.staleness"
USES = ["lab/scenes/staleness.py"]
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL", "sqlite": "sqlite"}
# A Session that reads again sees what was committed meanwhile, or its transaction's snapshot.
COMMITTED = {
    "postgresql": ("READ COMMITTED", "AUTOCOMMIT"),
    "mariadb": ("READ UNCOMMITTED", "READ COMMITTED", "AUTOCOMMIT"),
    "sqlite": ("driver's default", "AUTOCOMMIT"),
}
SNAPSHOT = {"postgresql": ("REPEATABLE READ", "SERIALIZABLE"), "mariadb": ("REPEATABLE READ",), "sqlite": (WAL,)}
# There, a read holds back whoever writes.
LOCKING = {"mariadb": ("SERIALIZABLE",)}
DEFAULT = {"postgresql": "READ COMMITTED", "mariadb": "REPEATABLE READ"}

BY_IDENTITY = ("attribute", "get()", "select(Entity)")
SAVEPOINT = "savepoint rolled back, get()"
BY_VALUE = ("select(column)", "text()")
REREADS = ("refresh()", "expire(), attribute", "expire_all(), attribute", "populate_existing")
EXPUNGED = "expunge_all(), select(Entity)"
ENDINGS = ("rollback(), get()", "commit(), get()", "close(), get()")
Row = Mapping[str, Any]


@experiment("stale-held-object", seeds=["I3"], uses=USES)
def held_object(effort: Effort) -> Iterator[Arm]:
    for held in ("held", "released"):
        for kind, isolation in _all(COMMITTED):
            # Without a transaction there is none to go back to.
            savepoint = () if isolation == "AUTOCOMMIT" else (SAVEPOINT,)
            if held == "held":
                yield column(effort, kind, isolation, held, "hazard", old=(*BY_IDENTITY, *savepoint), new=BY_VALUE)
            else:
                yield column(effort, kind, isolation, held, "control", new=(*BY_IDENTITY, *BY_VALUE, *savepoint))


@experiment("stale-snapshot", seeds=["I3"], uses=USES)
def snapshot(effort: Effort) -> Iterator[Arm]:
    all_reads = (*BY_IDENTITY, SAVEPOINT, *BY_VALUE, *REREADS, EXPUNGED)
    for held in ("held", "released"):
        for kind, isolation in _all(SNAPSHOT):
            yield column(effort, kind, isolation, held, "hazard", old=all_reads, new=ENDINGS)
    for held in ("held", "released"):
        for kind, isolation in _all(LOCKING):
            yield column(effort, kind, isolation, held, "control", blocked=all_reads)
    for kind, isolation in _all(COMMITTED):
        yield column(effort, kind, isolation, "held", "control", new=(*BY_VALUE, *REREADS, EXPUNGED))


@experiment("stale-read-committed-not-enough", seeds=["I3", "I5"], uses=USES)
def read_committed(effort: Effort) -> Iterator[Arm]:
    by_any = ("get()", "select(Entity)", *BY_VALUE)
    for kind in ("postgresql", "mariadb"):
        yield column(effort, kind, "REPEATABLE READ", "released", "hazard", old=by_any)
        yield column(effort, kind, "READ COMMITTED", "held", "hazard", old=("attribute", "get()", "select(Entity)"))
        yield column(effort, kind, "READ COMMITTED", "released", "remedy", new=by_any)


@experiment("stale-transaction-end-cures", seeds=["I5"], uses=USES)
def transaction_end(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        committed, snapshots = COMMITTED[kind], SNAPSHOT[kind]
        both = (*committed, *snapshots)
        old = [f"{isolation}, held" for isolation in both] + [f"{isolation}, released" for isolation in snapshots]
        yield after(effort, kind, "none", "get()", "hazard", old=old)
        everywhere = [f"{isolation}, {held}" for isolation in both for held in ("held", "released")]
        for read in ENDINGS:
            yield after(effort, kind, read.split(",")[0], read, "remedy", new=everywhere)
        for read in (EXPUNGED, "expire_all(), attribute"):
            new = [f"{isolation}, held" for isolation in committed]
            old = [f"{isolation}, held" for isolation in snapshots]
            yield after(effort, kind, read.split(",")[0], read, "control", old=old, new=new)


def column(effort: Effort, kind: str, isolation: str, held: str, role: Role, **words: Iterable[str]) -> Arm:
    """One column of the grid: each read is a fact; *words* names those that must have answered so."""
    lacks = OF_THE_OBJECT if held == "released" else ()
    checks = [Check(read, "==", word) for word, reads in words.items() for read in reads if read not in lacks]
    checks.append(Check("in_map", "==", int(held == "held")))
    if DEFAULT.get(kind) == isolation:
        checks.append(Check("servers_default", "==", isolation))
    setup = Setup(kind, DRIVERS[kind], isolation=isolation, held=held)

    def run() -> list[Trial]:
        found = played(kind, effort.pick(5, 1))
        trials = []
        for rows in found["columns"][isolation][held]:
            more = {"in_map": max(row["in_map"] for row in rows.values()), "servers_default": found["default"]}
            trials.append(facts(rows) | more)
        return told_once(trials)

    return arm(f"{kind}, {isolation}, {held}", role, setup, checks, run)


def after(effort: Effort, kind: str, remedy: str, read: str, role: Role, **words: Iterable[str]) -> Arm:
    """One row of the grid, turned: what was done before the read is the setup, and each isolation is a fact."""
    checks = [Check(name, "==", word) for word, names in words.items() for name in names]
    setup = Setup(kind, DRIVERS[kind], remedy=remedy, read=read)

    def run() -> list[Trial]:
        trials = effort.pick(5, 1)
        columns = played(kind, trials)["columns"]
        places = [(level, held) for level in (*COMMITTED[kind], *SNAPSHOT[kind]) for held in ("held", "released")]
        return told_once(
            facts({f"{level}, {held}": columns[level][held][nth][read] for level, held in places})
            for nth in range(trials)
        )

    return arm(f"{kind}, {remedy if remedy != 'none' else 'nothing done'}", role, setup, checks, run)


def facts(cells: Mapping[str, Row]) -> dict[str, Any]:
    """Outcomes by name; the SQL and the message of each, where there is one."""
    outcomes = {name: row["outcome"] for name, row in cells.items()}
    sql = {name: row["sql"] or ["no SQL"] for name, row in cells.items() if row["outcome"] in ("old", "new", "error")}
    return outcomes | {"sql": sql, "says": {name: row["message"] for name, row in cells.items() if row["message"]}}


def told_once(trials: Iterable[dict[str, Any]]) -> list[Trial]:
    """Trials, of which a later one leaves out the SQL and the messages that are as before."""
    found: list[Trial] = []
    seen: dict[str, Any] = {}
    for facts in trials:
        seen, before = {name: facts.get(name) for name in ("sql", "says")}, seen
        same = {name for name in seen if seen[name] == before.get(name)}
        found.append(Trial(facts={name: value for name, value in facts.items() if name not in same}))
    return found


@functools.cache
def played(kind: str, trials: int) -> dict[str, Any]:
    """What :func:`lab.scenes.staleness.main` saw of all isolations of a database."""
    isolations = [isolation for levels in (COMMITTED, SNAPSHOT, LOCKING) for isolation in levels.get(kind, ())]
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return play(SCENE, engine=engine, isolations=isolations, trials=trials, patience=240)


def _all(levels: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    return [(kind, isolation) for kind, isolations in levels.items() for isolation in isolations]
