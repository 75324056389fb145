"""The source's system under load: whose a Session is, and what becomes of the answers and of the books."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import replace

from lab.apps.bank import ASYNC, RECIPE
from lab.bank import loaded
from lab.components import Missing
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import RECORD, Effort, arm, experiment
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/bank.py", "lab/apps/bank.py", "recipes/threaded_server.py"]
DRIVERS = ("psycopg", "psycopg2", "PyMySQL", "mysqlclient")
ASYNC_DRIVERS = ("asyncpg", "asyncmy")
SHARED = ("one Session", "one Session, rollback on error")
LOCKED = ("one Session, one lock", "a Session per request, one lock")
EACH, SCOPED = "a Session per request", "scoped_session, remove()"
WORKERS = {RECIPE: 10}
PAIR = DRIVERS[::2]
PLAN = {DRIVERS: (*SHARED, EACH, SCOPED, RECIPE), PAIR: LOCKED, ASYNC_DRIVERS: (ASYNC,)}
# Clients, and how many requests each of them sends.
LOAD = {"record": (50, 10), "gate": (20, 5)}

BROKEN = (Check("bad", ">=", 1),)
BOOKS = ("acknowledged_lost", "stored_unacknowledged", "money", "accounts_off")
KEPT = tuple(Check(name, "==", 0) for name in ("bad", *BOOKS))


@experiment("threads-shared-session-breaks", seeds=["T1", "T3"], uses=USES)
def shared(effort: Effort) -> Iterator[Arm]:
    """Facts: nonces that were ``acknowledged`` and those ``stored``, ``acknowledged_lost`` and
    ``stored_unacknowledged``; ``money`` that appeared or vanished; accounts that are off; ``books``, all in a word.
    """
    for it in _arms(effort, "hazard", SHARED):
        # Of one load in the gate nobody can say whether it spoils the books; of several on PostgreSQL one does.
        spoilt = effort is RECORD and it.setup.scope == SHARED[1] and it.setup.database == "postgresql"
        yield replace(it, checks=(*it.checks, Check("books", "==", "wrong", of="some"))) if spoilt else it
    yield from _arms(effort, "control", [EACH])


@experiment("threads-session-per-request-keeps-the-books", seeds=["T1", "T6"], uses=USES)
def per_request(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, "hazard", SHARED[:1])
    yield from _arms(effort, "remedy", [EACH, RECIPE])
    yield from _arms(effort, "remedy", [ASYNC], ASYNC_DRIVERS)


@experiment("threads-scoped-session-keeps-the-books", seeds=["T4"], uses=USES)
def scoped(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, "hazard", SHARED[:1])
    yield from _arms(effort, "remedy", [SCOPED])


@experiment("threads-lock-keeps-the-books", seeds=["T2"], uses=USES)
def locked(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, "hazard", SHARED[:1], PAIR)
    yield from _arms(effort, "remedy", LOCKED, PAIR)


def _arms(effort: Effort, role: Role, scopes: Iterable[str], drivers: tuple[str, ...] = DRIVERS) -> Iterator[Arm]:
    clients, count = LOAD[effort.name]
    for scope in scopes:
        for name in _tried(effort, drivers):
            kind = driver(name).database
            it = Setup(kind, name, requests=clients * count, concurrency=clients, scope=scope, pool="5+10")
            run = functools.partial(_trials, effort, name, scope)
            yield arm(f"{scope}, {name}", role, it, BROKEN if role == "hazard" else KEPT, run)


def _tried(effort: Effort, drivers: tuple[str, ...]) -> tuple[str, ...]:
    return drivers[:: effort.pick(1, 2)] if drivers == DRIVERS else drivers


def _trials(effort: Effort, name: str, scope: str) -> list[Trial]:
    found = _played(effort, driver(name).database)[name, scope]
    if isinstance(found, Missing):
        raise found
    return found


@functools.cache
def _played(effort: Effort, kind: str) -> dict[tuple[str, str], list[Trial] | Missing]:
    """All that the claims ask of one database, which is started once."""
    played: dict[tuple[str, str], list[Trial] | Missing] = {}
    with start(kind) as database:
        for drivers, scopes in PLAN.items():
            for name in _tried(effort, drivers):
                for scope in scopes if driver(name).database == kind else ():
                    try:
                        played[name, scope] = _play(effort, database, name, scope)
                    except Missing as missing:
                        played[name, scope] = missing
    return played


def _play(effort: Effort, database: Database, name: str, scope: str) -> list[Trial]:
    clients, count = LOAD[effort.name]
    # Who hangs is given up after four seconds; who has to be right gets the time that a busy machine takes.
    hangs = scope in SHARED
    load = {"clients": clients, "count": count, "deadline": 4 if hangs else 60}
    engine = arguments(name, database)
    trials = effort.pick(5 if hangs else 3, 1)
    return [loaded(database, engine, scope, load, threads=WORKERS.get(scope, 0)) for _ in range(trials)]
