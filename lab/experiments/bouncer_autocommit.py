"""AUTOCOMMIT behind a PgBouncer in transaction mode: what can come between the messages of one query."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.pgbouncer import bouncers
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/pgbouncer.py", "lab/scenes/bouncer_clients.py", "lab/scenes/bouncer_autocommit.py"]
SHARED, TWO = "on the server connection of another", "on two server connections"
AUTOCOMMIT, TRANSACTION = "AUTOCOMMIT", "a transaction"
RIGHT = {SHARED: "right", TWO: "right"}
# By driver, with its cure for prepared statements: what is played, and what becomes of the query.
CASES: dict[str, dict[str, tuple[Role, dict[str, Any], dict[str, str]]]] = {
    "psycopg2": {AUTOCOMMIT: ("control", {}, RIGHT)},
    "psycopg": {AUTOCOMMIT: ("control", {"prepare_threshold": None}, RIGHT)},
    "psycopg async": {AUTOCOMMIT: ("control", {"prepare_threshold": None}, RIGHT)},
    "asyncpg": {AUTOCOMMIT: ("control", {"statement_cache_size": 0}, RIGHT)},
    "pg8000": {
        AUTOCOMMIT: ("hazard", {}, {SHARED: "wrong", TWO: "error"}),
        TRANSACTION: ("remedy", {}, RIGHT),
    },
}


@experiment("pgbouncer-autocommit-pg8000", uses=USES)
def autocommit(effort: Effort) -> Iterator[Arm]:
    with bouncers() as bouncer_with:
        for name, cases in CASES.items():
            played = functools.cache(functools.partial(_play, bouncer_with, name, effort.pick(2, 1)))
            for case, (role, _, words) in cases.items():
                setup = Setup("postgresql", name, server="pgbouncer", isolation=case, mode="transaction")
                checks = [Check(row, "==", word) for row, word in words.items()]
                yield arm(f"{name}, {case}", role, setup, checks, functools.partial(_trials, played, case))


def _trials(played: Any, case: str) -> Iterator[Trial]:
    for got in played():
        rows = got[case]
        facts = {row: it["word"] for row, it in rows.items()}
        says = {row: it["says"] for row, it in rows.items() if it["says"]}
        # In how many messages, where nobody came between them and nothing failed.
        facts["messages"] = rows[SHARED]["messages"]
        yield Trial(facts={**facts, "says": says})


def _play(bouncer_with: Any, name: str, count: int) -> list[dict[str, Any]]:
    settings = {
        case: {"connect_args": connect, **({"isolation_level": case} if case == AUTOCOMMIT else {})}
        for case, (_, connect, _) in CASES[name].items()
    }
    found = []
    for _ in range(count):
        with bouncer_with(pool_mode="transaction", default_pool_size=2) as bouncer:
            where = {"arguments": arguments(name, bouncer.front), "plain": arguments("psycopg2", bouncer.front)}
            found.append(play("lab.scenes.bouncer_autocommit", settings=settings, **where))
    return found
