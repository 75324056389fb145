"""The recipe retry_transaction: both are done, where the database ends one of two transactions."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.components import Missing
from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.lost_retry import DEADLOCK, IN_SAVEPOINT, REFUSED
from lab.scenes.lost_stage import SNAPSHOT
from lab.shapes import Arm, Check, Role, Setup, Trial
from lab.trials import NETWORK_DRIVERS

USES = ["lab/scenes/lost_retry.py", "lab/scenes/lost_stage.py", "recipes/retry_transaction.py"]
SNAPSHOTS = f"REPEATABLE READ{SNAPSHOT}"
# By case the isolation.
PLAYS = {
    "postgresql": {DEADLOCK: "READ COMMITTED", IN_SAVEPOINT: "READ COMMITTED", REFUSED: "SERIALIZABLE"},
    "mariadb": {DEADLOCK: "REPEATABLE READ", IN_SAVEPOINT: "REPEATABLE READ", REFUSED: SNAPSHOTS},
    "sqlite": {REFUSED: "BEGIN"},
}
ROLES: dict[str, Role] = {"none": "hazard", "retry": "remedy"}


@experiment("retry-transaction-does-both", uses=USES)
def does_both(effort: Effort) -> Iterator[Arm]:
    """Facts: ``balances`` in the end, ``acknowledged`` of the two, ``attempts`` that it took; ``messages``, and the
    ``class`` of the error and what its ``code`` is.
    """
    for name in (*NETWORK_DRIVERS, "sqlite"):
        kind = driver(name).database
        for case, level in PLAYS[kind].items():
            for remedy, role in ROLES.items():
                checks = [Check("acknowledged", "==", 2 if role == "remedy" else 1)]
                if role == "remedy":
                    checks.append(Check("moved", "==", "10, and 20 back"))
                it = Setup(kind, name, isolation=level, moment=case, remedy=remedy)
                run = functools.partial(_trials, effort, name, case, remedy)
                yield arm(f"{name}, {case}, {remedy}", role, it, checks, run)


# What has been moved between the two accounts, by what they hold in the end.
MOVED = {(110, 90): "10, and 20 back", (90, 110): "10", (120, 80): "20 back"}


def _trials(effort: Effort, name: str, case: str, remedy: str) -> list[Trial]:
    played = _played(name, effort.pick(5, 1))
    if case not in played:
        raise Missing("this MariaDB has no innodb_snapshot_isolation; 10.11.8 and 11.4.2, for example, have it")
    return [
        Trial(facts={**seen, "moved": MOVED.get(tuple(seen["balances"]), "something else"), **_error(seen["messages"])})
        for seen in played[case][remedy]
    ]


def _error(messages: list[str]) -> dict[str, str]:
    return {"class": messages[0].partition(": ")[0].rpartition(".")[2]} if messages else {}


@functools.cache
def _played(name: str, trials: int) -> dict[str, Any]:
    with start(driver(name).database) as database:
        plays = dict(PLAYS[database.kind])
        if database.kind == "mariadb" and not database.ask("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
            del plays[REFUSED]
        engine = arguments(name, database)
        return play("lab.scenes.lost_retry", engine=engine, plays=plays, trials=trials, patience=200)
