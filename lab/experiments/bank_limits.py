"""A bank whose threads keep what they should give back, and one that more clients ask than it has connections."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from lab.apps.bank import RECIPE, Account
from lab.bank import Asked, Bank, Client, books, fire, opened, served, settled, transactions
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import wait_until
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

USES = ["lab/bank.py", "lab/apps/bank.py", "recipes/threaded_server.py"]
DRIVERS = ("psycopg", "PyMySQL")
EACH, REMOVED, ROLLED, NEITHER = (
    "a Session per request",
    "scoped_session, remove()",
    "scoped_session, rollback()",
    "scoped_session, neither",
)
# MOST is the pool's size and its overflow.
THREADS, CLIENTS, CROWD, MOST = 5, 20, 30, 15


@experiment("threads-remove-forgotten-idle-in-transaction", seeds=["T5"], uses=USES)
def pool_of_threads(effort: Effort) -> Iterator[Arm]:
    """Facts: ``transactions_left``, open after the clients have gone, by the server's own view."""
    ways: dict[str, tuple[Role, int]] = {NEITHER: ("hazard", THREADS), ROLLED: ("control", 0), REMOVED: ("remedy", 0)}
    for scope, (role, left) in ways.items():
        checks = [Check("right", "==", THREADS * 2), Check("bad", "==", 0), Check("transactions_left", "==", left)]
        yield from _arms(effort, _pooled, scope, role, checks, THREADS, 2)


@experiment("threads-dead-thread-keeps-its-connection", seeds=["T5"], uses=USES)
def dead_threads(effort: Effort) -> Iterator[Arm]:
    """Facts: ``threads`` of the server that live afterwards, and ``connections`` that the database counts."""
    gone = [Check("right", "==", MOST), Check("error", "==", CLIENTS - MOST), Check("connections", "==", MOST)]
    served = [Check("right", "==", CLIENTS), Check("error", "==", 0), Check("connections", "==", 1)]
    for scope, role in ((NEITHER, "hazard"), (REMOVED, "remedy"), (EACH, "remedy")):
        checks = [*(gone if role == "hazard" else served), Check("threads", "==", 1)]
        yield from _arms(effort, _one_by_one, scope, role, checks, 1, CLIENTS)


@experiment("threads-overload-is-answered-busy", seeds=["T6"], uses=USES)
def overload(effort: Effort) -> Iterator[Arm]:
    """Facts: how many were told ``busy``, and the server's ``threads``, both while the account was locked."""
    kept = [Check(name, "==", 0) for name in ("acknowledged_lost", "stored_unacknowledged", "money")]
    full = {
        EACH: ("hazard", {"busy": 0, "error": CROWD - MOST}, Check("threads", "==", 1 + CROWD)),
        RECIPE: ("remedy", {"busy": CROWD - MOST, "error": 0}, Check("threads", "==", 1 + THREADS)),
    }
    for scope, (role, values, more) in full.items():
        checks = [Check("right", "==", MOST), *(Check(name, "==", value) for name, value in values.items())]
        yield from _arms(effort, _crowded, scope, role, [*checks, more, *kept], CROWD)


def _arms(
    effort: Effort,
    play: Callable[..., Trial],
    scope: str,
    role: Role,
    checks: list[Check],
    clients: int,
    count: int = 1,
) -> Iterator[Arm]:
    for name in DRIVERS:
        size = {"requests": clients * count, "concurrency": clients, "threads": PLAYS[play][scope], "pool": "5+10"}
        it = Setup(driver(name).database, name, scope=scope, **size)
        yield arm(f"{scope}, {name}", role, it, checks, functools.partial(_trials, effort, name, scope, play))


def _trials(effort: Effort, name: str, scope: str, play: Callable[..., Trial]) -> list[Trial]:
    return _played(effort, name)[play, scope]


@functools.cache
def _played(effort: Effort, name: str) -> dict[tuple[Callable[..., Trial], str], list[Trial]]:
    """All that the claims ask of one driver; its database is started once."""
    with start(driver(name).database) as database:
        engine = arguments(name, database)
        return {
            (play, scope): [play(database, engine=engine, scope=scope, threads=n) for _ in range(effort.pick(3, 1))]
            for play, scopes in PLAYS.items()
            for scope, n in scopes.items()
        }


def _pooled(database: Database, **server: Any) -> Trial:
    with opened(database), served(**server) as bank:
        asked = fire(bank.port, THREADS, 2, deadline=60, what=lambda client, count: [("READ", 1)] * count)
        found = {"transactions_left": transactions(database)}
    settled(database)
    return Trial(_tally(asked), None, found)


def _one_by_one(database: Database, **server: Any) -> Trial:
    asked = []
    with opened(database), served(**server, collect=False, pool={"pool_timeout": 0.3}) as bank:
        for number in range(CLIENTS):
            with contextlib.closing(Client(bank.port, f"c{number}", 60)) as client:
                asked.append(client.ask("READ", 1))
        wait_until(lambda: _threads(bank) == 1, "the end of the bank's threads")
        found = {"threads": _threads(bank), "connections": len(database.sessions())}
    settled(database)
    return Trial(_tally(asked), None, found)


def _crowded(database: Database, **server: Any) -> Trial:
    """All want to pay into one account, which the lab has locked; the lock goes when all others have been answered."""
    asked: list[Asked] = []
    load: dict[str, Any] = {"deadline": 60, "what": lambda client, count: [("ADD", 1, 1)] * count, "asked": asked}
    with opened(database) as own:
        with served(**server, waiting=MOST - THREADS, pool={"pool_timeout": 0.3}) as bank:
            with own.connect() as connection:
                connection.execute(select(Account.id).where(Account.id == 1).with_for_update())
                crowd = threading.Thread(target=fire, args=(bank.port, CROWD, 1), kwargs=load)
                crowd.start()
                wait_until(lambda: len(asked) == CROWD - MOST, "answers to those who are too many")
                found = {"threads": _threads(bank)}
            crowd.join()
        settled(database)
        busy = [it for it in asked if it.outcome.message == "busy"]
        return Trial(
            _tally(it for it in asked if it not in busy), None, {**books(own, asked), **found, "busy": len(busy)}
        )


def _tally(asked: Iterable[Asked]) -> Tally:
    return Tally.of(it.outcome for it in asked)


def _threads(bank: Bank) -> int:
    return len(list(Path(f"/proc/{bank.process.pid}/task").iterdir()))


# By what is played the scopes, and how many threads serve; 0 is one for each connection.
PLAYS: dict[Callable[..., Trial], dict[str, int]] = {
    _pooled: dict.fromkeys((NEITHER, ROLLED, REMOVED), THREADS),
    _one_by_one: dict.fromkeys((NEITHER, REMOVED, EACH), 0),
    _crowded: {EACH: 0, RECIPE: THREADS},
}
