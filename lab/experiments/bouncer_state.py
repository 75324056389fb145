"""What clients of a PgBouncer leave behind on its server connections: settings, tables, isolation levels, locks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.drivers import arguments, load
from lab.evidence import Effort, arm, experiment
from lab.pgbouncer import bouncers
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/pgbouncer.py", "lab/scenes/bouncer_clients.py", "lab/scenes/bouncer_state.py"]
SESSION, TRANSACTION = {"pool_mode": "session"}, {"pool_mode": "transaction"}
STATE = ("SET", "temporary table", "LISTEN")
FINE = ("SET TimeZone", "SET LOCAL", "temporary table, on commit drop")
ITSELF, OTHERS = "itself", "others"
MODES: dict[str, tuple[Role, dict[str, str], str, str]] = {
    "transaction": ("hazard", TRANSACTION, "lost", "leaked"),
    "transaction, server_reset_query_always=1": (
        "hazard",
        {**TRANSACTION, "server_reset_query_always": "1"},
        "lost",
        "right",
    ),
    "session": ("remedy", SESSION, "right", "right"),
    "session, no server_reset_query": ("hazard", {**SESSION, "server_reset_query": ""}, "right", "leaked"),
}
LEVEL = "SERIALIZABLE"
BY_EVENT = "SET TRANSACTION on begin"
LEVELS: dict[tuple[str, str], tuple[Role, dict[str, Any], str, str]] = {
    ("pg8000", "isolation_level"): ("hazard", {"isolation_level": LEVEL}, "lost", "leaked"),
    ("pg8000", BY_EVENT): ("remedy", {"begin": f"set transaction isolation level {LEVEL}"}, "right", "right"),
    **{
        (name, "isolation_level"): ("control", {"isolation_level": LEVEL, "connect_args": connect}, "right", "right")
        for name, connect in {
            "psycopg2": {},
            "psycopg": {"prepare_threshold": None},
            "psycopg async": {"prepare_threshold": None},
            "asyncpg": {"statement_cache_size": 0},
        }.items()
    },
}
LOCKS: dict[tuple[str, bool], tuple[Role, dict[str, Any]]] = {
    ("transaction", False): ("hazard", {"second owner": True, "unlocked": False, "left": 1}),
    ("transaction", True): ("remedy", {"second owner": False, "unlocked": True, "left": 0}),
    ("session", False): ("control", {"second owner": False, "unlocked": True, "left": 0}),
    ("session", True): ("control", {"second owner": False, "unlocked": True, "left": 0}),
}


@experiment("pgbouncer-session-state", uses=USES)
def state(effort: Effort) -> Iterator[Arm]:
    with bouncers() as bouncer_with:
        for mode, (role, settings, itself, others) in MODES.items():
            words = {
                **{_row(row, ITSELF): itself for row in STATE},
                **{_row(row, OTHERS): others for row in STATE},
                **{_row(row, whom): "right" for row in FINE for whom in (ITSELF, OTHERS)},
            }
            # PgBouncer tells its server connections the time zone of whom they serve, in either mode.
            run = _trials(effort, bouncer_with, settings, "psycopg2", rows=[*STATE, *FINE])
            setup = Setup("postgresql", "psycopg2", server="pgbouncer", mode=mode)
            yield arm(mode, role, setup, _checks(words), run)


@experiment("pgbouncer-isolation-level", uses=USES)
def isolation(effort: Effort) -> Iterator[Arm]:
    with bouncers() as bouncer_with:
        for (name, way), (role, settings, itself, others) in LEVELS.items():
            if name in ("psycopg", "psycopg async") and effort.pick(0, 1):
                continue
            words = {_row("isolation_level", ITSELF): itself, _row("isolation_level", OTHERS): others}
            run = _trials(effort, bouncer_with, TRANSACTION, name, rows=["isolation_level"], settings=settings)
            setup = Setup("postgresql", name, server="pgbouncer", remedy=way, isolation=LEVEL, mode="transaction")
            yield arm(f"{name}, {way}", role, setup, _checks(words), run)


@experiment("pgbouncer-advisory-lock", uses=[*USES, "lab/scenes/bouncer_locks.py"])
def locks(effort: Effort) -> Iterator[Arm]:
    with bouncers() as bouncer_with:
        for (mode, transaction), (role, facts) in LOCKS.items():
            way = "pg_advisory_xact_lock()" if transaction else "pg_advisory_lock()"
            run = functools.partial(_locked, effort, bouncer_with, mode, transaction)
            setup = Setup("postgresql", "psycopg2", server="pgbouncer", remedy=way, mode=mode)
            yield arm(f"{way}, {mode} mode", role, setup, _checks(facts), run)


def _row(row: str, whom: str) -> str:
    return f"{row}: {whom}"


def _checks(expected: Mapping[str, Any]) -> list[Check]:
    return [Check(row, "==", word) for row, word in expected.items()]


def _trials(effort: Effort, bouncer_with: Any, pool: Mapping[str, str], name: str, **how: Any) -> Callable:
    def run() -> Iterator[Trial]:
        for _ in range(effort.pick(2, 1)):
            with bouncer_with(**pool, default_pool_size=2) as bouncer:
                where = {"arguments": arguments(name, bouncer.front), "plain": arguments("psycopg2", bouncer.front)}
                told = play("lab.scenes.bouncer_state", **where, **how)
            yield Trial(facts={_row(row, whom): word for row, words in told.items() for whom, word in words.items()})

    return run


def _locked(effort: Effort, bouncer_with: Any, mode: str, transaction: bool) -> Iterator[Trial]:
    load("psycopg2")
    for _ in range(effort.pick(3, 1)):
        # In session mode each of the three keeps one.
        with bouncer_with(pool_mode=mode, default_pool_size=3 if mode == "session" else 2) as bouncer:
            where = arguments("psycopg2", bouncer.front)
            yield Trial(facts=play("lab.scenes.bouncer_locks", arguments=where, transaction=transaction))
