"""What the recipes cost per checkout, beside ``pool_pre_ping`` and ``NullPool``: bytes to the server, and CPU time."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Iterator

from lab.costs import SOURCES, Counting
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.overhead import WARM_UP, WAYS
from lab.shapes import Arm, Check, Setup, Trial

SCENE = "lab.scenes.overhead"
RECIPES = ["fork_safe_engine", "rq_postfork", "crossing_guard"]
DRIVERS = ("psycopg2", "PyMySQL", "mysqlclient", "psycopg", "pg8000", "mysql-connector")
DEAR = ("pool_pre_ping", "NullPool")
SILENT = Check("more_bytes", "==", 0)


@experiment(
    "recipes-cost-no-round-trip",
    uses=["lab/scenes/overhead.py", *SOURCES, *(f"recipes/{name}.py" for name in RECIPES)],
)
def cost(effort: Effort) -> Iterator[Arm]:
    """Facts: ``more_bytes``, what is sent to the server beyond what the bare engine sends, per checkout with one
    question. From the record of one quiet machine also ``cpu_us``, the client's CPU time per checkout in microseconds,
    and ``times_bare``, how many times the bare engine's that is; medians over rounds in which the ways take turns.
    """
    for name in DRIVERS[: effort.pick(6, 3)]:
        played: list[dict[str, Trial]] = []
        for way in WAYS:
            if way == "bare engine":
                continue
            it = Setup(driver(name).database, name, remedy=way)
            role, checks = ("hazard", [Check("more_bytes", ">", 0)]) if way in DEAR else ("remedy", [SILENT])

            def trials(name: str = name, way: str = way, played: list[dict[str, Trial]] = played) -> list[Trial]:
                if not played:
                    with start(driver(name).database) as database:
                        played.append(_facts(name, database, effort))
                return [trial[way] for trial in played]

            yield arm(f"{name}, {way}", role, it, checks, trials)


def _facts(name: str, database: Database, effort: Effort) -> dict[str, Trial]:
    sent = bytes_sent(name, database, 20)
    facts: dict[str, dict[str, float]] = {
        way: {"more_bytes": round(sent[way] - sent["bare engine"], 1)} for way in WAYS
    }
    if effort.name == "record":
        rounds = cpu(name, database, 31, 60)
        for way in WAYS:
            facts[way]["cpu_us"] = round(statistics.median(row[way] for row in rounds), 1)
            facts[way]["times_bare"] = round(statistics.median(row[way] / row["bare engine"] for row in rounds), 2)
    return {way: Trial(facts=found) for way, found in facts.items()}


def bytes_sent(name: str, database: Database, checkouts: int) -> dict[str, float]:
    """What each way sends to the server per checkout, in bytes; those of the warm-up are counted as well."""
    with contextlib.ExitStack() as stack:
        relays = {}
        for way in WAYS:
            relays[way] = Counting(database.port)
            stack.callback(relays[way].stop)
        engines = {
            way: arguments(name, dataclasses.replace(database, port=relay.port)) for way, relay in relays.items()
        }
        play(SCENE, engines=engines, rounds=1, checkouts=checkouts)
        return {way: relay.sent / (WARM_UP + checkouts) for way, relay in relays.items()}


def cpu(name: str, database: Database, rounds: int, checkouts: int) -> list[dict[str, float]]:
    """The client's CPU time per checkout in microseconds, for each round and way."""
    engines = dict.fromkeys(WAYS, arguments(name, database))
    return play(SCENE, engines=engines, rounds=rounds, checkouts=checkouts)["rounds"]
