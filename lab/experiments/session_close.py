"""Does ``Session.close()`` leave a transaction open, as is said of it?"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

NO_RESET = ", pool_reset_on_return=None"
LEAKED, IN_POOL, NONE = (1, 1), (1, 0), (0, 0)
# What is open afterwards: transactions, and connections that are checked out.
EXPECTED: dict[str, tuple[Role, tuple[int, int]]] = {
    "no close()": ("hazard", LEAKED),
    f"the driver's own transaction{NO_RESET}": ("hazard", IN_POOL),
    "the driver's own transaction": ("control", NONE),
    "close()": ("remedy", NONE),
    f"close(){NO_RESET}": ("remedy", NONE),
    "commit()": ("control", NONE),
    f"Connection.close(){NO_RESET}": ("control", NONE),
}


@experiment("close-ends-the-transaction", uses=["lab/pages.py", "lab/scenes/closing.py"])
def close_ends(effort: Effort) -> Iterator[Arm]:
    for name in ("psycopg2", "psycopg", "PyMySQL")[:: effort.pick(1, 2)]:
        played = functools.cache(functools.partial(_play, name, effort.pick(5, 1)))
        for way, (role, (transactions, connections)) in EXPECTED.items():
            it = Setup(driver(name).database, name, remedy=way)
            checks = [
                Check("transactions open", "==", transactions),
                Check("connections checked out", "==", connections),
            ]
            yield arm(f"{way}, {name}", role, it, checks, functools.partial(_trials, played, way))


def _trials(played: Any, way: str) -> list[Trial]:
    return [Trial(facts=got[way]) for got in played()]


def _play(name: str, count: int) -> list[dict[str, Any]]:
    with start(driver(name).database) as database:
        how = {"arguments": arguments(name, database), "database": database.kind}
        return [play("lab.scenes.closing", **how) for _ in range(count)]
