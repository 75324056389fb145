"""What the recipes for sessions cost per request: bytes to the server, and CPU time."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Iterator
from typing import Any

from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.overhead import Counting
from lab.process import play
from lab.scenes.session_overhead import BESIDE, WARM_UP, WAYS
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.session_overhead"
RECIPES = [
    "wsgi_session", "flask_session", "asgi_session", "fastapi_session", "read_your_writes", "fresh_reads",
]  # fmt: skip
USES = ["lab/scenes/session_overhead.py", "lab/wsgi.py", "lab/relay.py", *(f"recipes/{name}.py" for name in RECIPES)]
DRIVERS = ("psycopg2", "PyMySQL")
# reread() has to know the isolation, and asks for it.
DEAR = ("WSGI, a Session for each query", "WSGI, with Session(), pool_pre_ping", "fresh_reads, reread()")


@experiment("session-recipes-cost", uses=USES)
def cost(effort: Effort) -> Iterator[Arm]:
    """Facts: ``more_bytes``, what is sent to the server per request beyond what is sent without the recipe. From the
    record of one quiet machine also ``cpu_us``, the client's CPU time per request in microseconds, and ``more_us``,
    how much more that is; medians over rounds in which the ways take turns.
    """
    for name in DRIVERS:
        for way, beside in BESIDE.items():
            role: Role = "hazard" if way in DEAR else "remedy"
            it = Setup(driver(name).database, name, remedy=way, child=f"beside {beside}")
            checks = [Check("more_bytes", ">" if role == "hazard" else "==", 0)]

            def trials(name: str = name, way: str = way) -> list[Trial]:
                return [Trial(facts=_measured(name, effort)[way])]

            yield arm(f"{name}, {way}", role, it, checks, trials)


@functools.cache
def _measured(name: str, effort: Effort) -> dict[str, dict[str, Any]]:
    with start(driver(name).database) as database:
        sent = bytes_sent(name, database, 20)
        facts: dict[str, dict[str, Any]] = {
            way: {"more_bytes": round(sent[way] - sent[beside], 1)} for way, beside in BESIDE.items()
        }
        if effort.name == "record":
            rounds = cpu(name, database, 31, 40)
            for way, beside in BESIDE.items():
                facts[way]["cpu_us"] = round(statistics.median(row[way] for row in rounds), 1)
                facts[way]["more_us"] = round(statistics.median(row[way] - row[beside] for row in rounds), 1)
    return facts


def bytes_sent(name: str, database: Database, requests: int) -> dict[str, float]:
    """What each way sends to the server per request, in bytes; those of the warm-up are counted as well."""
    with contextlib.ExitStack() as stack:
        relays = {}
        for way in WAYS:
            relays[way] = Counting(database.port)
            stack.callback(relays[way].stop)
        engines = {
            way: arguments(name, dataclasses.replace(database, port=relay.port)) for way, relay in relays.items()
        }
        play(SCENE, engines=engines, setup=arguments(name, database), rounds=1, requests=requests)
        return {way: relay.sent / (WARM_UP + requests) for way, relay in relays.items()}


def cpu(name: str, database: Database, rounds: int, requests: int) -> list[dict[str, float]]:
    """The client's CPU time per request in microseconds, for each round and way."""
    settings = arguments(name, database)
    engines = dict.fromkeys(WAYS, settings)
    return play(SCENE, engines=engines, setup=settings, rounds=rounds, requests=requests, patience=240)["rounds"]
