"""gevent: whose a scoped Session is, what a killed greenlet leaves, and a driver that does not cooperate (T3, T4)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.greenlet_scopes import AFTER_IMPORT, CAPTURED, EARLY, GREENLETS, LATE, NEVER, PATCHED, THREAD
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

COMMON = "lab/scenes/task_common.py"
ALL = {"right": GREENLETS, "sessions": GREENLETS, "stored": 150}
REFUSED = {"right": 1, "error": GREENLETS - 1, "sessions": 1, "not closed": GREENLETS - 1, "stored": 100}
SILENT = {"right": GREENLETS, "error": 0, "sessions": 1, "told": "OK", "stored": 100}
# When the patches come, what the registry goes by, and what is to be seen of it.
PATCHES: tuple[tuple[Role, str, str, Mapping[str, Any]], ...] = (
    ("hazard", LATE, THREAD, REFUSED),
    ("hazard", NEVER, THREAD, SILENT),
    ("hazard", EARLY, CAPTURED, REFUSED),
    ("remedy", EARLY, THREAD, ALL),
    ("remedy", EARLY, PATCHED, ALL),
    ("control", AFTER_IMPORT, THREAD, ALL),
    ("hazard", LATE, PATCHED, REFUSED),
    ("hazard", NEVER, PATCHED, SILENT),
)

PING, DRIVER, INVALIDATED = (
    "in the pre-ping",
    "in a driver's cursor, close()",
    "in a driver's cursor, invalidate()",
)
THROUGH = ("in a query", "between two queries", "in commit()", "in the rollback of close()")
COOPERATIVE = ("PyMySQL", "pg8000", "psycopg", "mysql-connector")
# What a killed greenlet leaves that was in a cursor of the driver's.
LEFT = {("pg8000", True): "leaked", ("pg8000", False): "leaked", ("mysql-connector", False): "error"}


@experiment("greenlet-registry-needs-early-patches", seeds=["T4"], uses=["lab/scenes/greenlet_scopes.py", COMMON])
def patches(effort: Effort) -> Iterator[Arm]:
    """Of the update: what its greenlet was ``told``, and what is ``stored``."""
    for role, patched, scopefunc, values in PATCHES[: effort.pick(len(PATCHES), 4)]:
        it = Setup("mariadb", "PyMySQL", moment=patched, concurrency=GREENLETS, scope=f"scopefunc: {scopefunc}")
        checks = [Check(name, "==", value) for name, value in values.items()]

        def run(patched: str = patched, scopefunc: str = scopefunc) -> Iterator[Trial]:
            for row in _scopes(effort.pick(3, 1))[f"{patched}, {scopefunc}"]:
                outcomes = [Outcome(each["kind"], each.get("message", "")) for each in row["outcomes"]]
                closing = row["closing"]
                facts = {name: row[name] for name in ("sessions", "told", "stored", "out")}
                yield Trial(
                    Tally.of(outcomes),
                    facts={**facts, "not closed": len(closing), "said": closing[0] if closing else ""},
                )

        yield arm(f"patched {patched}, scopefunc: {scopefunc}", role, it, checks, run)


@functools.cache
def _scopes(count: int) -> dict[str, list[dict[str, Any]]]:
    with start("mariadb") as database:
        how = {"engine": arguments("PyMySQL", database), "database": database.kind}

        def played(patched: str, scopefunc: str) -> list[dict[str, Any]]:
            more = {**how, "patched": patched, "scopefunc": scopefunc}
            return [play("lab.scenes.greenlet_scopes", **more) for _ in range(count)]

        chosen = PATCHES if count > 1 else PATCHES[:4]
        return {f"{patched}, {scopefunc}": played(patched, scopefunc) for _, patched, scopefunc, _ in chosen}


@experiment("greenlet-killed-leaves-the-pool-right", seeds=["T3"], uses=["lab/scenes/greenlet_killed.py", COMMON])
def killed(effort: Effort) -> Iterator[Arm]:
    for name in COOPERATIVE[: effort.pick(len(COOPERATIVE), 3)]:
        for ping in (True, False)[: effort.pick(2, 1)]:
            for how in ("kill()", "Timeout")[: effort.pick(2, 1)]:
                through = [*([PING] if ping else []), *THROUGH]
                left = LEFT.get((name, ping), "right")
                groups: tuple[tuple[Role, str, Mapping[str, str]], ...] = (
                    ("remedy", "a Session", dict.fromkeys(through, "right")),
                    ("control" if left == "right" else "hazard", "the driver's cursor, close()", {DRIVER: left}),
                    ("remedy", "the driver's cursor, invalidate()", {INVALIDATED: "right"}),
                )
                for role, way, words in groups:
                    yield _killed(effort, role, name, ping, how, way, words)


def _killed(effort: Effort, role: Role, name: str, ping: bool, how: str, way: str, words: Mapping[str, str]) -> Arm:
    pool = "pool_pre_ping" if ping else "no pool_pre_ping"
    it = Setup(driver(name).database, name, remedy=way, moment=how, pool=pool)

    def run() -> Iterator[Trial]:
        for told in _kills(name, effort.pick(3, 1))[f"{pool}, {how}"]:
            rows = {moment: told[moment] for moment in words}
            nexts = [each for row in rows.values() for each in row["next"]]
            outcomes = [Outcome(each["kind"], each.get("message", "")) for each in nexts]
            says = {moment: f"the greenlet: {row['told']}" for moment, row in rows.items()}
            yield Trial(Tally.of(outcomes), facts={**{m: _word(row) for m, row in rows.items()}, "says": says})

    checks = [Check(moment, "==", word) for moment, word in words.items()]
    return arm(f"{way}, {name}, {how}, {pool}", role, it, checks, run)


def _word(row: Mapping[str, Any]) -> str:
    if row["told"].startswith(("was done", "went on", "hung")):
        return row["told"]
    if row["out"]:
        return "leaked"
    kinds = {each["kind"] for each in row["next"]}
    return next((kind for kind in ("wrong", "error") if kind in kinds), "right")


@functools.cache
def _kills(name: str, count: int) -> dict[str, list[dict[str, Any]]]:
    with start(driver(name).database) as database:
        told = {"engine": arguments(name, database), "database": database.kind, "trials": count}
        return play("lab.scenes.greenlet_killed", patience=240, **told)


@experiment("greenlet-freezes-with-psycopg2", seeds=["T3"], uses=["lab/scenes/greenlet_freeze.py", COMMON])
def freeze(effort: Effort) -> Iterator[Arm]:
    frozen = {"frozen": True, "waits in": "poll", "ticks": 0, "stored": 150}
    goes_on = {"frozen": False, "first": "OK", "second": "OK", "stored": 200}
    cases: tuple[tuple[Role, str, str, Mapping[str, Any]], ...] = (
        ("hazard", "psycopg2", "", frozen),
        ("remedy", "psycopg2", "set_wait_callback", goes_on),
        ("hazard", "mysqlclient", "", frozen),
        ("control", "psycopg", "", goes_on),
        ("control", "PyMySQL", "", goes_on),
    )
    for role, name, remedy, values in cases[: effort.pick(len(cases), 2)]:
        it = Setup(driver(name).database, name, remedy=remedy or "none")
        checks = [Check(fact, "==", value) for fact, value in values.items()]

        def run(name: str = name, remedy: str = remedy) -> Iterator[Trial]:
            with start(driver(name).database) as database:
                how = {"engine": arguments(name, database), "database": database.kind, "remedy": remedy}
                for _ in range(effort.pick(3, 1)):
                    yield Trial(facts=play("lab.scenes.greenlet_freeze", patience=120, **how))

        yield arm(", ".join(filter(None, (name, remedy))), role, it, checks, run)
