"""Who runs into a pool's limit, and what does not help: leaks, slow calls, turns, and a queue that is not fair."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.pools import as_app, limited, setting
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

POOLS = "lab/pools.py"
SYNC = ("psycopg", "PyMySQL")
# What each takes from an account that is no superuser's: 17 of PostgreSQL's 20, and all of MariaDB's.
LIMITS = {"postgresql": 20, "mariadb": 17}
TAKES = 17
DEFAULT = "5+10"
# What is said to help against timeouts, as options of create_engine.
LEAKS: dict[str, tuple[Mapping[str, Any], int, str]] = {
    DEFAULT: ({}, 15, "QueuePool limit of size 5 overflow 10"),
    "2+0": ({"pool_size": 2, "max_overflow": 0}, 2, "QueuePool limit of size 2 overflow 0"),
    "5+10, pool_pre_ping": ({"pool_pre_ping": True}, 15, "QueuePool limit"),
    "5+10, pool_recycle": ({"pool_recycle": 1}, 15, "QueuePool limit"),
    "5+10, pool_use_lifo": ({"pool_use_lifo": True}, 15, "QueuePool limit"),
    "20+10": ({"pool_size": 20}, TAKES, "server"),
    "unlimited overflow": ({"max_overflow": -1}, TAKES, "server"),
    "NullPool": ({}, TAKES, "server"),
}
# The record of another claim has the 30 seconds.
QUICK = {pool: {"pool_timeout": 0.2} for pool in LEAKS if pool != "NullPool"}
BEFORE = ("", "commit", "rollback", "close")
FULL = {"postgresql": "remaining connection slots are reserved", "mariadb": "Too many connections"}


@experiment(
    "pool-leak-ends-every-pool", seeds=["T5"], uses=["lab/scenes/pool_leak.py", "lab/scenes/pool_budget.py", POOLS]
)
def leak(effort: Effort) -> Iterator[Arm]:
    """Facts: ``calls``, how many were right before the first that failed; who ``refused`` that one, the pool or the
    server; ``status``, what the pool said of itself then.
    """
    for name in SYNC[: effort.pick(2, 1)]:
        played = functools.partial(_leaks, name, effort.pick(3, 1))
        for pool, (_, calls, by) in LEAKS.items():
            refused = "the server" if by == "server" else "the pool"
            checks = [Check("calls", "==", calls), Check("refused", "==", refused), Check("error", "==", 1)]
            it = Setup(**setting(name, pool), remedy="none")
            yield arm(
                f"{name}, {pool}", "hazard", it, checks, functools.partial(_leak_trials, name, played, pool, False)
            )
        for pool in (DEFAULT, "2+0", "NullPool"):
            it = Setup(**setting(name, pool), remedy="close()")
            checks = [Check("calls", "==", 40), Check("error", "==", 0)]
            run = functools.partial(_leak_trials, name, played, pool, True)
            yield arm(f"{name}, {pool}, close()", "remedy", it, checks, run)


def _leak_trials(name: str, played: Any, pool: str, closes: bool) -> Iterator[Trial]:
    for seen in played()[pool, closes]:
        message = _without_port(seen["message"])
        by = {"QueuePool limit": "the pool", FULL[driver(name).database]: "the server"}
        refused = next((who for words, who in by.items() if words in message), "nobody")
        tally = Tally(seen["right"], error=bool(message), messages={message: 1} if message else {})
        yield Trial(tally, facts={"calls": seen["right"], "refused": refused, "status": seen["status"]})


@functools.cache
def _leaks(name: str, count: int) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    keys = [(pool, closes) for pool in LEAKS for closes in (False, True)]
    cells = [
        {
            "options": {**LEAKS[pool][0], **QUICK.get(pool, {})},
            "closes": closes,
            "null": pool == "NullPool",
            "calls": 40,
        }
        for pool, closes in keys
        for _ in range(count)
    ]
    with limited(driver(name).database, LIMITS[driver(name).database]) as database:
        how = {"engine": as_app(name, database), "own": arguments(name, database), "patience": 240}
        found = play("lab.scenes.pool_leak", **how, cells=cells)
    return {key: found[at * count : (at + 1) * count] for at, key in enumerate(keys)}


@experiment(
    "pool-sixteenth-waits-thirty-seconds",
    seeds=["T5"],
    uses=["lab/scenes/pool_leak.py", "lab/scenes/pool_budget.py"],
    gated=False,
)
def thirty_seconds(effort: Effort) -> Iterator[Arm]:
    """The engine as it comes, with a pool_timeout of 30 seconds: for the words of the message."""
    with start("postgresql") as database:
        given = arguments("psycopg", database)
        for role, closes in (("hazard", False), ("remedy", True)):
            words = "QueuePool limit of size 5 overflow 10 reached, connection timed out, timeout 30.00"
            told = play(
                "lab.scenes.pool_leak", engine=given, own=given, cells=[{"options": {}, "calls": 16, "closes": closes}]
            )[0]
            checks = [Check("calls", "==", 16 if closes else 15), Check("said", "==", not closes)]
            message = told["message"]
            facts = {"calls": told["right"], "said": words in message}
            trial = Trial(
                Tally(told["right"], error=bool(message), messages={message: 1} if message else {}), None, facts
            )
            it = Setup(**setting("psycopg", DEFAULT), remedy="close()" if closes else "none")
            yield arm(f"psycopg, {it.remedy}", role, it, checks, lambda trial=trial: [trial])


@experiment("pool-held-across-a-slow-call", uses=["lab/scenes/pool_hold.py", POOLS])
def slow_call(effort: Effort) -> Iterator[Arm]:
    """Facts: ``idle_in_transaction``, so many connections the server shows as that during the slow call."""
    for name in SYNC[: effort.pick(2, 1)]:
        for before in BEFORE:
            role: Role = "remedy" if before else "hazard"
            checks = [Check("error", "==", 0 if before else 6), Check("right", "==", 6 if before else 0)]
            checks += [Check("idle_in_transaction", "==", 0 if before else 2)]
            it = Setup(**setting(name, "2+0"), threads=8, remedy=f"{before}() before it" if before else "none")
            run = functools.partial(_slow_trials, name, before, effort.pick(3, 1))
            yield arm(f"{name}, {it.remedy}", role, it, checks, run)


def _slow_trials(name: str, before: str, count: int) -> Iterator[Trial]:
    cells = [{"threads": 8, "connections": 2, "timeout": 2, "before": word} for word in BEFORE]
    for seen in _held(name, "slow call", json.dumps(cells), count)[BEFORE.index(before)]:
        tally = Tally(seen["right"], error=seen["errors"], messages=dict.fromkeys(seen["messages"], seen["errors"]))
        yield Trial(tally, facts={"idle_in_transaction": seen["idle_in_transaction"]})


@experiment("pool-size-bounds-what-runs-at-once", seeds=["T2", "T6"], uses=["lab/scenes/pool_hold.py", POOLS])
def turns(effort: Effort) -> Iterator[Arm]:
    """Facts: ``at_once``, the most that held a connection at a time; ``rounds``, threads by connections; ``seconds``
    that all took, of which ``hold`` times ``rounds`` is the least.
    """
    threads, hold = 20, 0.05
    sizes = (1, 2, 5, 10, 20, 40)
    for size in sizes:
        most = min(size, threads)
        checks = [Check("at_once", "==", most), Check("seconds", ">=", round(hold * threads / most, 2) - 0.01)]
        role: Role = "hazard" if size < threads else "control"
        it = Setup(**setting("psycopg", f"{size}+0"), threads=threads)
        run = functools.partial(_turn_trials, effort.pick(3, 1), threads, hold, sizes, size)
        yield arm(f"psycopg, pool {size}", role, it, checks, run)


def _turn_trials(count: int, threads: int, hold: float, sizes: tuple[int, ...], size: int) -> Iterator[Trial]:
    cells = [{"threads": threads, "connections": each, "hold": hold} for each in sizes]
    for seen in _held("psycopg", "turns", json.dumps(cells), count)[sizes.index(size)]:
        yield Trial(facts={**seen, "hold": hold})


@functools.cache
def _held(name: str, scene: str, cells: str, count: int) -> list[list[dict[str, Any]]]:
    """Each of *cells*, a list in JSON, *count* times."""
    asked = [cell for cell in json.loads(cells) for _ in range(count)]
    with start(driver(name).database) as database:
        found = play("lab.scenes.pool_hold", engine=arguments(name, database), scene=scene, cells=asked, patience=120)
    return [found[at : at + count] for at in range(0, len(found), count)]


WAYS: dict[str, dict[str, Any]] = {
    "FIFO, forced": {"way": "pool"},
    "LIFO, forced": {"way": "pool", "lifo": True},
    "a thread per connection": {"way": "queue"},
    # Python's own interval.
    "FIFO, left to itself": {"way": "pool", "interval": 0.005},
}


@experiment("pool-queue-is-not-fair", seeds=["T6"], uses=["lab/scenes/pool_fair.py", POOLS])
def not_fair(effort: Effort) -> Iterator[Arm]:
    """Facts: ``passed``, how often the other client's turn was passed over, of ``turns``."""
    for name in SYNC[: effort.pick(2, 1)]:
        for way in list(WAYS)[: effort.pick(4, 3)]:
            role: Role = "remedy" if WAYS[way]["way"] == "queue" else "hazard"
            check = Check("passed", "==", 0 if role == "remedy" else 100)
            check = Check("passed", ">=", 1, "some") if "itself" in way else check
            it = Setup(**setting(name, "1+0"), threads=1 if role == "remedy" else 2, mode=way)
            run = functools.partial(_fair_trials, name, tuple(WAYS), way, effort.pick(5, 1))
            yield arm(f"{name}, threads, {way}", role, it, [check], run)
    for name in ("asyncpg", "psycopg async", "asyncmy")[: effort.pick(3, 1)]:
        it = Setup(**setting(name, "1+0"), mode="tasks")
        run = functools.partial(_fair_trials, name, ("FIFO, forced",), "FIFO, forced", effort.pick(5, 1))
        yield arm(f"{name}, tasks", "control", it, [Check("passed", "==", 0)], run)


def _fair_trials(name: str, ways: tuple[str, ...], way: str, count: int) -> Iterator[Trial]:
    at = ways.index(way) * count
    yield from (Trial(facts=seen) for seen in _fair(name, ways, count)[at : at + count])


@functools.cache
def _fair(name: str, ways: tuple[str, ...], count: int) -> list[dict[str, Any]]:
    cells = [WAYS[way] for way in ways for _ in range(count)]
    with start(driver(name).database) as database:
        how = {"engine": arguments(name, database), "loop": driver(name).loop}
        return play("lab.scenes.pool_fair", **how, cells=cells, patience=120)


def _without_port(message: str) -> str:
    return re.sub(r"port \d+", "port …", message)
