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
    cases: dict[str, tuple[Role, list[Check]]] = {
        "direct": ("hazard", refused),
        "session": ("hazard", waited),
        "transaction": ("remedy", all_right),
    }
    for mode, (role, checks) in cases.items():
        behind = {} if mode == "direct" else {"server": "pgbouncer", "mode": mode, "pool": str(SERVERS)}
        setup = Setup("postgresql", DRIVER, concurrency=CLIENTS, **behind)
        run = functools.partial(_crowds, effort, mode)
        yield arm(mode, role, setup, [*checks, Check("wrong", "==", 0)], run)


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
            setup = Setup("postgresql", DRIVER, server="pgbouncer", remedy=case, mode="transaction", pool="1")
            run = functools.partial(_turns, effort, bouncer_with, {"pool_mode": "transaction", **pool}, {}, keeps_open)
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
            setup = Setup("postgresql", DRIVER, server="pgbouncer", remedy=pool, mode=mode, pool="1")
            checks = [
                Check("B", "==", word),
                Check("B, afterwards", "==", "right"),
                Check("A, afterwards", "==", "right"),
                Check("client connections", "==", connected),
                Check("server connections taken", "==", taken),
            ]
            run = functools.partial(_turns, effort, bouncer_with, {"pool_mode": mode}, engine[pool], False)
            yield arm(f"{mode} mode, {pool}", role, setup, checks, run)


def _crowds(effort: Effort, mode: str) -> Iterator[Trial]:
    for _ in range(effort.pick(3, 1)):
        with start("postgresql") as database, contextlib.ExitStack() as stack:
            front = database
            if mode != "direct":
                settings = dict([WAIT.split("=")]) if mode == "session" else {}
                pool = {"default_pool_size": SERVERS, "max_client_conn": 2 * CLIENTS, **settings}
                front = stack.enter_context(pgbouncer(database, pool_mode=mode, **pool)).front
            got = play("lab.scenes.bouncer_crowd", arguments=arguments(DRIVER, front), count=CLIENTS, patience=180)
            said = set(got["messages"])
            facts = {
                "refused": any("sorry, too many clients already" in text for text in said),
                "waited": any("query_wait_timeout" in text for text in said),
            }
            yield Trial(facts={**got, **facts})


def _turns(effort: Effort, bouncer_with: Any, pool: Any, engine: Any, keeps_open: bool) -> Iterator[Trial]:
    for _ in range(effort.pick(5, 1)):
        with bouncer_with(default_pool_size=1, **pool) as bouncer:
            where = arguments(DRIVER, bouncer.front)
            yield Trial(facts=play("lab.scenes.bouncer_turns", arguments=where, settings=engine, keeps_open=keeps_open))
