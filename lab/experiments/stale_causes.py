"""Which of two causes makes a real server's answers stale, and what ends both: per database and isolation (I3, I5)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

from lab.databases import Database, start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.interpreters import DEFAULT, DRIVERS, SOURCES, begin_anew, change, count, create, on, serve, setup
from lab.process import play
from lab.scenes.poll import READS
from lab.scenes.staleness import WAL
from lab.servers import Server
from lab.shapes import Arm, Check, Setup, Trial

APACHE = setup("apache + mod_wsgi", "daemon", 3)
N = count(APACHE)
# Each statement reads what is committed by then.
COMMITTED = (
    ("postgresql", "READ COMMITTED"),
    ("postgresql", "AUTOCOMMIT"),
    ("mariadb", "READ COMMITTED"),
    ("sqlite", "driver's default"),
)
# All statements of a transaction read what was committed at its first.
SNAPSHOT = (("postgresql", "REPEATABLE READ"), ("mariadb", "REPEATABLE READ"), ("sqlite", WAL))
NO_REMEDY, REMOVED = "none", "remove()"
MANNERS = tuple((held, remedy) for held in ("released", "held") for remedy in (NO_REMEDY, REMOVED))
IDLE = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and state = 'idle in transaction'",
    "mariadb": "select count(*) from information_schema.innodb_trx",
}
POLLS = 50
POLL = "lab.scenes.poll"
BY_IDENTITY = ("attribute", "get()", "select(Entity)")
_played: dict[tuple[Setup, int], list[Trial]] = {}


@experiment("stale-remove-cures", seeds=["I5"], uses=SOURCES)
def remove_cures(effort: Effort) -> Iterator[Arm]:
    with _stage(effort) as played:
        for kind, isolation in (*COMMITTED, *SNAPSHOT):
            for held, remedy in MANNERS:
                orm, raw = _stale(kind, isolation, held) if remedy == NO_REMEDY else (0, 0)
                role = "remedy" if remedy == REMOVED else "hazard" if orm else "control"
                checks = [Check("orm_stale", "==", orm), Check("raw_stale", "==", raw), Check("total", "==", N)]
                yield _arm(_setup(kind, isolation, held, remedy), role, checks, played)


@experiment("stale-two-causes-in-apache", seeds=["I3"], uses=SOURCES)
def two_causes(effort: Effort) -> Iterator[Arm]:
    with _stage(effort) as played:
        for kind in ("postgresql", "mariadb"):
            for isolation, held, role in (
                ("READ COMMITTED", "held", "hazard"),
                ("REPEATABLE READ", "released", "hazard"),
                ("READ COMMITTED", "released", "control"),
            ):
                orm, raw = _stale(kind, isolation, held)
                checks = [Check("orm_stale", "==", orm), Check("raw_stale", "==", raw)]
                yield _arm(_setup(kind, isolation, held, NO_REMEDY), role, checks, played)


@experiment("stale-readers-idle-in-transaction", seeds=["I5"], uses=SOURCES)
def idle_in_transaction(effort: Effort) -> Iterator[Arm]:
    """Fact: ``idle_in_transaction``, the server's sessions that wait in a transaction when all requests are over."""
    with _stage(effort) as played:
        for kind, isolation in (*COMMITTED, *SNAPSHOT):
            if kind not in IDLE:
                continue
            for remedy in (NO_REMEDY, REMOVED):
                ends = remedy == REMOVED or isolation == "AUTOCOMMIT"
                role = "remedy" if remedy == REMOVED else "control" if ends else "hazard"
                checks = [Check("idle_in_transaction", "==", 0 if ends else N)]
                yield _arm(_setup(kind, isolation, "released", remedy), role, checks, played)


@experiment("stale-polling-worker", seeds=["I3"], uses=["lab/scenes/poll.py"])
def polling_worker(effort: Effort) -> Iterator[Arm]:
    """Facts, by the kind of read: "new" when the first poll after the change sees it, "old" when none of them does."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str) -> Database:
            running = stack.enter_context(start(kind))
            table = "lab.job" if kind == "mariadb" else "job"
            running.ask(f"create table {table} (id int primary key, state varchar(20) not null)")
            running.ask(f"insert into {table} values (1, 'queued')")
            return running

        def polled(it: Setup) -> Iterator[Trial]:
            running = database(it.database)
            engine = arguments(it.driver, running)
            isolation = "" if it.isolation == DEFAULT[it.database] else it.isolation
            how = {"isolation": isolation, "rollback": it.remedy == "rollback()", "polls": POLLS}
            for first in play(POLL, engine=engine, trials=effort.pick(10, 2), **how)["trials"]:
                words = {0: "old", 1: "new"}
                yield Trial(facts={name: words.get(n, f"new at poll {n}") for name, n in first.items()})

        for kind in ("postgresql", "mariadb"):
            for isolation in ("READ COMMITTED", "REPEATABLE READ"):
                for remedy in (NO_REMEDY, "rollback()"):
                    it = Setup(kind, DRIVERS[kind], remedy=remedy, isolation=isolation, held="held", requests=POLLS)
                    old = () if remedy != NO_REMEDY else READS if (kind, isolation) in SNAPSHOT else BY_IDENTITY
                    checks = [Check(name, "==", "old" if name in old else "new") for name in READS]
                    role = "hazard" if remedy == NO_REMEDY else "remedy"
                    name = ", ".join(filter(None, (kind, isolation, "" if remedy == NO_REMEDY else remedy)))
                    yield arm(name, role, it, checks, functools.partial(polled, it))


def _stale(kind: str, isolation: str, held: str) -> tuple[int, int]:
    """How many interpreters are to be stale by their object and by a plain SELECT: a held object, or a snapshot."""
    snapshot = (kind, isolation) in SNAPSHOT
    return (N - 1 if snapshot or held == "held" else 0), (N - 1 if snapshot else 0)


def _setup(kind: str, isolation: str, held: str, remedy: str) -> Setup:
    return on(APACHE, kind, isolation, held=held, remedy=remedy)


def _arm(it: Setup, role: str, checks: list[Check], played: Callable[[Setup], list[Trial]]) -> Arm:
    name = ", ".join((it.database, it.isolation, it.held, *([] if it.remedy == NO_REMEDY else [it.remedy])))
    return arm(name, role, it, checks, functools.partial(played, it))


@contextlib.contextmanager
def _stage(effort: Effort) -> Iterator[Callable[[Setup], list[Trial]]]:
    """A function from setup to trials. One start of Apache serves all manners of an isolation, and all claims."""
    trials = effort.pick(5, 1)
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str, mode: str) -> Database:
            create(running := stack.enter_context(start(kind)))
            return running

        def played(it: Setup) -> list[Trial]:
            if (it, trials) not in _played:
                # SQLite's WAL mode is the file's.
                running = database(it.database, it.isolation if it.database == "sqlite" else "")
                with serve(it, running) as server:
                    for held, remedy in MANNERS:
                        one = dataclasses.replace(it, held=held, remedy=remedy)
                        _played[one, trials] = [_trial(server, running, one) for _ in range(trials)]
            return _played[it, trials]

        yield played


def _trial(server: Server, database: Database, it: Setup) -> Trial:
    begin_anew(server, database, it)
    trial = change(server, database, it)
    if database.kind not in IDLE:
        return trial
    # MariaDB answers from a list that is renewed only when nobody has asked for a tenth of a second.
    time.sleep(0.15)
    idle = database.ask(IDLE[database.kind])[0][0]
    return dataclasses.replace(trial, facts={**trial.facts, "idle_in_transaction": idle})
