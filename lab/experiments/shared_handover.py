"""A Session that goes from thread to thread, SQLite's check of threads, and SQLite's one connection for all."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.shared_session import DRIVERS
from lab.process import play
from lab.scenes.shared_lanes import OK
from lab.scenes.shared_money import EACH, ONE
from lab.scenes.shared_sqlite import MEET, WAYS
from lab.shapes import Arm, Check, Setup, Trial

SHARED = ["lab/scenes/shared_money.py", "lab/scenes/shared_lanes.py"]
HANDOVER = ["lab/scenes/shared_handover.py", *SHARED, "lab/experiments/shared_session.py"]
SQLITE = ["lab/scenes/shared_sqlite.py", *SHARED]
OTHER_THREAD = (
    "sqlalchemy.exc.ProgrammingError: (sqlite3.ProgrammingError) SQLite objects created in a thread can only be used "
    "in that same thread. The object was created in thread id … and this is thread id …."
)
NO_TABLE = "sqlalchemy.exc.OperationalError: (sqlite3.OperationalError) no such table: shared_account"
# What the second thread is told: within a transaction that the first began, and between transactions.
CHECKED = {
    "file, check_same_thread=True": (OTHER_THREAD, OTHER_THREAD),
    "file, creator=sqlite3.connect": (OTHER_THREAD, OK),
    "memory": (OTHER_THREAD, NO_TABLE),
}


@experiment("session-handed-over", seeds=["T3"], uses=HANDOVER)
def handed_over(effort: Effort) -> Iterator[Arm]:
    """Facts: ``hops`` between so many ``threads``, ``errors``, ``wrong`` answers, and by how much the balance ``grew``,
    which is one for each hop; or, where the second thread begins while the first still waits for its connection, what
    A and B ``are told``.
    """
    for name in effort.pick((*DRIVERS, "sqlite"), ("psycopg2", "sqlite")):
        kind = driver(name).database
        hops = effort.pick(200, 40)

        def handed(name: str = name, hops: int = hops) -> list[Trial]:
            seen = _handed(name, hops)["handed over"]
            return [Trial(facts={**seen, "errors": sum(seen["errors"].values()), "grew": seen["stored"]})]

        def overlapping(name: str = name, hops: int = hops) -> list[Trial]:
            seen = _handed(name, hops)["overlapping"]
            outcomes = [word != OK for word in seen.values()]
            return [Trial(facts={"errors": sum(outcomes), "says": seen, "hops": 1, "threads": 2})]

        checks = [Check("errors", "==", 0), Check("wrong", "==", 0), Check("grew", "==", hops)]
        yield arm(f"{name}, handed over", "remedy", Setup(kind, name, scope=ONE, moment="handed over"), checks, handed)
        it = Setup(kind, name, scope=ONE, moment="overlapping")
        yield arm(f"{name}, overlapping", "hazard", it, [Check("errors", "==", 1)], overlapping)


@experiment("sqlite-session-in-another-thread", seeds=["T3"], uses=SQLITE)
def another_thread(effort: Effort) -> Iterator[Arm]:
    """Facts: the ``pool``; what the second thread is told ``within`` and ``between`` transactions."""
    for way in WAYS:
        within, between = CHECKED.get(way, (OK, OK))
        checks = [Check("within", "==", within), Check("between", "==", between)]
        role = "hazard" if way in CHECKED else "control"
        yield _arm(effort, way, role, checks, ("pool", "within", "between"))


@experiment("sqlite-one-connection-for-all", seeds=["T3"], uses=SQLITE)
def one_connection(effort: Effort) -> Iterator[Arm]:
    """Facts: the ``pool``; the balance after A has ``paid in``; the total after A has taken its transfer back."""
    for way in MEET:
        hazard = "StaticPool" in way
        values = {"paid in": 100, "total": 150} if hazard else {"paid in": 150, "total": 200}
        checks = [Check("A is told", "==", OK), *(Check(field, "==", value) for field, value in values.items())]
        fields = ("pool", "paid in", "total", "A is told", "B is told")
        yield _arm(effort, way, "hazard" if hazard else "remedy", checks, fields)


def _arm(effort: Effort, way: str, role: Any, checks: list[Check], fields: tuple[str, ...]) -> Arm:
    def run() -> Iterator[Trial]:
        for seen in _on_sqlite(effort.pick(10, 1)):
            facts = dict(seen[way])
            if way in MEET:
                paid, moved = facts.pop("pays in"), facts.pop("transfers")
                facts |= {"paid in": paid["stored"][0], "total": sum(moved["stored"])}
                facts |= {name: paid[name] for name in ("A is told", "B is told")}
            yield Trial(facts={name: facts[name] for name in fields})

    return arm(way, role, Setup("sqlite", "sqlite", pool=way, scope=EACH if "total" in fields else ONE), checks, run)


@functools.cache
def _handed(name: str, hops: int) -> dict[str, Any]:
    kind = driver(name).database
    with start(kind) as database:
        return play("lab.scenes.shared_handover", engine=arguments(name, database), database=kind, hops=hops)


@functools.cache
def _on_sqlite(trials: int) -> list[dict[str, Any]]:
    with start("sqlite") as database:
        return [play("lab.scenes.shared_sqlite", file=database.name) for _ in range(trials)]
