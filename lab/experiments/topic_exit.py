"""A worker ends: what the database server writes in its log, and what ``dispose()`` at the end changes."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator

from lab import drivers, load
from lab.databases import Database, start
from lab.evidence import Effort, arm, experiment
from lab.process import wait_until
from lab.servers import gunicorn
from lab.shapes import Arm, Check, Role, Setup, Trial
from lab.trials import complaints

APP = "lab.apps.topic_exit"
USES = ["lab/apps/topic_exit.py", "lab/trials.py"]
KILLED = "killed"
IDLE, BUSY = "checked in", "checked out"
NOTHING, DISPOSE, BOTH = "nothing", "dispose()", "close(), dispose()"
ABORTED = "Aborted connection N to db: 'lab' user: 'lab' host: 'N.N.N.N' (Got an error reading communication packets)"
WAYS = {
    "mariadb": ((IDLE, NOTHING), (IDLE, KILLED), (IDLE, DISPOSE), (BUSY, DISPOSE), (BUSY, BOTH)),
    "postgresql": (
        *((IDLE, at_exit) for at_exit in (NOTHING, KILLED)),
        *((BUSY, at_exit) for at_exit in (NOTHING, KILLED, DISPOSE, BOTH)),
    ),
}
CUT = "unexpected EOF on client connection with an open transaction"


@experiment("exit-without-dispose-aborts", uses=USES)
def exit_without_dispose(effort: Effort) -> Iterator[Arm]:
    """Fact: ``logged``, what MariaDB logs of a worker's end."""
    ours, pure = ("PyMySQL", "mysql-connector", "mysqlclient"), ("PyMySQL", "mysql-connector")
    yield from _arms("mariadb", pure, IDLE, NOTHING, "hazard", ABORTED, effort)
    yield from _arms("mariadb", ours, IDLE, KILLED, "hazard", ABORTED, effort)
    yield from _arms("mariadb", pure, BUSY, DISPOSE, "hazard", ABORTED, effort)
    yield from _arms("mariadb", ("mysqlclient",), IDLE, NOTHING, "control", "", effort)
    yield from _arms("mariadb", ours, IDLE, DISPOSE, "remedy", "", effort)
    yield from _arms("mariadb", pure, BUSY, BOTH, "remedy", "", effort)


@experiment("exit-in-a-transaction-unexpected-eof", uses=USES)
def exit_in_a_transaction(effort: Effort) -> Iterator[Arm]:
    """Fact: ``logged``, what PostgreSQL logs of a worker's end."""
    ours, libpq = ("psycopg2", "psycopg", "pg8000"), ("psycopg2", "psycopg")
    yield from _arms("postgresql", ours, BUSY, KILLED, "hazard", CUT, effort)
    for at_exit in (NOTHING, DISPOSE):
        yield from _arms("postgresql", ("pg8000",), BUSY, at_exit, "hazard", CUT, effort)
    yield from _arms("postgresql", libpq, BUSY, NOTHING, "control", "", effort)
    for at_exit in (NOTHING, KILLED):
        yield from _arms("postgresql", ours, IDLE, at_exit, "control", "", effort)
    yield from _arms("postgresql", ("pg8000",), BUSY, BOTH, "remedy", "", effort)


def _arms(
    kind: str, names: tuple[str, ...], leaves: str, at_exit: str, role: Role, logged: str, effort: Effort
) -> Iterator[Arm]:
    for name in names:
        run = functools.partial(_trials, kind, name, leaves, at_exit, effort)
        setup = Setup(kind, name, server="gunicorn", workers=1, held=leaves, remedy=at_exit)
        yield arm(f"{name}, {leaves}, {at_exit}", role, setup, [Check("logged", "==", logged)], run)


def _trials(kind: str, name: str, leaves: str, at_exit: str, effort: Effort) -> list[Trial]:
    return _played(kind, name, effort.pick(3, 1))[leaves, at_exit]


@functools.cache
def _played(kind: str, name: str, count: int) -> dict[tuple[str, str], list[Trial]]:
    with start(kind) as database:
        return {way: [_trial(database, name, *way) for _ in range(count)] for way in WAYS[kind]}


def _trial(database: Database, name: str, leaves: str, at_exit: str) -> Trial:
    """Have one worker answer once, and end."""
    before = len(database.log)
    settings = {
        "engine": drivers.arguments(name, database),
        "database": database.kind,
        "leaves": leaves,
        "at_exit": NOTHING if at_exit == KILLED else at_exit,
    }
    with gunicorn(APP, workers=1, settings=settings) as server:
        answer = load.request(server.port, deadline=30)
        if at_exit == KILLED:
            os.kill(answer.pid, signal.SIGKILL)
        else:
            os.kill(server.master, signal.SIGTERM)
            wait_until(lambda: not server.process.running, "the end")
        wait_until(lambda: answer.backend not in database.sessions(), "the end of the session")
    logged = ", ".join(complaints(database.log[before:]))
    return Trial(load.tally([answer]), facts={"logged": logged})
