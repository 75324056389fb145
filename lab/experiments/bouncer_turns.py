"""How many clients a PgBouncer carries, and what takes a server connection from the others."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.pgbouncer import bouncers, pgbouncer
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/pgbouncer.py", "lab/scenes/bouncer_clients.py", "lab/scenes/bouncer_turns.py"]
CLIENTS, SERVERS, ALLOWED = 200, 10, 100
WAIT = "query_wait_timeout=5"
DRIVER = "psycopg2"


@experiment(
    "pgbouncer-carries-clients",
    uses=["lab/pgbouncer.py", "lab/scenes/bouncer_clients.py", "lab/scenes/bouncer_crowd.py"],
)
def carries(effort: Effort) -> Iterator[Arm]:
    all_right = [Check("right", "==", CLIENTS), Check("server connections", "<=", SERVERS)]
    refused = [Check("right", "<=", ALLOWED), Check("error", ">=", CLIENTS - ALLOWED), Check("refused", "==", True)]
    waited = [Check("right", "<=", SERVERS), Check("error", ">=", CLIENTS - SERVERS), Check("waited", "==", True)]
    # psycopg2 does not pass on what PgBouncer says as it hangs up.
    cases: list[tuple[str, str, Role, list[Check]]] = [
        ("psycopg", "direct", "hazard", refused),
        ("psycopg", "session", "hazard", waited),
        ("psycopg2", "session", "hazard", waited),
        ("psycopg", "transaction", "remedy", all_right),
    ]
    for name, mode, role, checks in cases:
        behind = {} if mode == "direct" else {"server": "pgbouncer", "mode": mode, "pool": str(SERVERS)}
        setup = Setup("postgresql", name, concurrency=CLIENTS, **behind)
        run = functools.partial(_crowds, effort, name, mode)
        yield arm(f"{mode}, {name}", role, setup, [*checks, Check("wrong", "==", 0)], run)


@experiment("pgbouncer-open-transaction-blocks", uses=USES)
def open_transaction(effort: Effort) -> Iterator[Arm]:
    timeout = "idle_transaction_timeout=1"
    right = {"B": "right", "B, afterwards": "right", "A, afterwards": "right"}
    cases: dict[str, tuple[Role, bool, dict[str, Any], dict[str, str]]] = {
        "an open transaction": ("hazard", True, {}, {**right, "B": "hangs"}),
        "committed and closed": ("remedy", False, {}, right),
        timeout: ("remedy", True, {"idle_transaction_timeout": 1}, {**right, "A, afterwards": "error"}),
    }
    with bouncers() as bouncer_with:
        for case, (role, keeps_open, pool, words) in cases.items():
            how = {"keeps_open": keeps_open, "seconds": 30 if case == timeout else 1}
            setup = Setup("postgresql", DRIVER, server="pgbouncer", remedy=case, mode="transaction", pool="1")
            run = functools.partial(_turns, effort, bouncer_with, {"pool_mode": "transaction", **pool}, {}, how)
            yield arm(case, role, setup, [Check(row, "==", word) for row, word in words.items()], run)


@experiment("pgbouncer-own-pool", uses=USES)
def own_pool(effort: Effort) -> Iterator[Arm]:
    queue, none = "QueuePool", "NullPool"
    pre_ping = f"{queue}, pool_pre_ping"
    engine = {queue: {}, none: {"null_pool": True}, pre_ping: {"pool_pre_ping": True}}
    # The role; what becomes of B; connections of clients, and server connections that are taken, while A rests.
    cases: dict[tuple[str, str], tuple[Role, str, int, int]] = {
        ("session", queue): ("hazard", "hangs", 1, 1),
        ("session", pre_ping): ("hazard", "hangs", 1, 1),
        ("session", none): ("remedy", "right", 0, 0),
        ("transaction", queue): ("remedy", "right", 1, 0),
        ("transaction", pre_ping): ("remedy", "right", 1, 0),
        ("transaction", none): ("remedy", "right", 0, 0),
    }
    with bouncers() as bouncer_with:
        for (mode, pool), (role, word, connected, taken) in cases.items():
            if pool == pre_ping and effort.pick(0, 1):
                continue
            setup = Setup("postgresql", DRIVER, server="pgbouncer", remedy=pool, mode=mode, pool="1")
            checks = [
                Check("B", "==", word),
                Check("B, afterwards", "==", "right"),
                Check("A, afterwards", "==", "right"),
                Check("client connections", "==", connected),
                Check("server connections taken", "==", taken),
            ]
            how = {"keeps_open": False, "seconds": 1}
            run = functools.partial(_turns, effort, bouncer_with, {"pool_mode": mode}, engine[pool], how)
            yield arm(f"{mode} mode, {pool}", role, setup, checks, run)


def _crowds(effort: Effort, name: str, mode: str) -> Iterator[Trial]:
    settings = dict([WAIT.split("=")]) if mode == "session" else {}
    pool = {"default_pool_size": SERVERS, "max_client_conn": 2 * CLIENTS, **settings}
    for _ in range(effort.pick(2, 1)):
        with start("postgresql") as database, contextlib.ExitStack() as stack:
            front, log = database, str
            if mode != "direct":
                bouncer = stack.enter_context(pgbouncer(database, pool_mode=mode, **pool))
                front, log = bouncer.front, bouncer.server.text
            got = play("lab.scenes.bouncer_crowd", arguments=arguments(name, front), count=CLIENTS, patience=180)
            facts = {
                "refused": any("sorry, too many clients already" in text for text in got["messages"]),
                "waited": "pooler error: query_wait_timeout" in log(),
            }
            yield Trial(facts={**got, **facts})


def _turns(effort: Effort, bouncer_with: Any, pool: Any, engine: Any, how: Any) -> Iterator[Trial]:
    for _ in range(effort.pick(2, 1)):
        with bouncer_with(default_pool_size=1, **pool) as bouncer:
            where = arguments(DRIVER, bouncer.front)
            yield Trial(facts=play("lab.scenes.bouncer_turns", arguments=where, settings=engine, **how))
