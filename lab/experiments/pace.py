"""Is threading the way not to go? A lock, pools, workers, processes and an event loop before the same work."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lab import components
from lab.databases import Database, start
from lab.drivers import arguments, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.pace_strategies import STRATEGIES
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

SCENE, INSIDE = "lab.scenes.pace", "lab.scenes.pace_inside"
USES = ["lab/scenes/pace.py", "lab/scenes/pace_strategies.py"]
# By database the drivers of threads and of the event loop.
DRIVERS = {"postgresql": ("psycopg", "asyncpg"), "mariadb": ("PyMySQL", "asyncmy")}
CLIENTS, REQUESTS, ROUNDS = 50, 8, 5
LOCKS = ("one lock", "one Session, one lock")
MEASURED = tuple(name for name in STRATEGIES if name != LOCKS[1])
SHORT, LONG = 0.002, 0.02
# Where threads have the same number of connections.
BESIDE = {way.format(n): f"pool of {n}" for n in (5, 10, 20, 50) for way in ("asyncio, pool of {}", "{} workers")}
GATE = ("one lock", "pool of 10", "10 workers", "asyncio, pool of 10")


@experiment("pace-lock-is-a-pool-of-one", seeds=["T2", "T6"], uses=[*USES, "lab/scenes/pace_inside.py"])
def inside(effort: Effort) -> Iterator[Arm]:
    """Facts: ``inside``, how many of 50 transactions the server had in a statement at once, while none could end;
    ``asked``, how many clients had asked by then, where they are in one process.
    """
    names = STRATEGIES if effort.name == "record" else GATE
    for kind in DRIVERS:
        for name in names:
            wide = STRATEGIES[name]
            role: Role = "hazard" if name in LOCKS else "control" if wide.width == 1 else "remedy"
            checks = [Check("inside", "==", wide.width), Check("right", "==", CLIENTS)]
            if wide.processes == 1:
                checks.append(Check("asked", "==", CLIENTS))
            run = functools.partial(_inside_trials, kind, name, tuple(names), effort.pick(3, 1))
            yield arm(f"{name}, {kind}", role, _setup(kind, name), checks, run)


# Ratios of times within one round are steady, but not where forty processes want two cores: none of them is gated.
@experiment("pace-pool-beats-the-lock", seeds=["T2", "T6"], uses=USES, gated=False)
def pool(effort: Effort) -> Iterator[Arm]:
    """Facts of this and the following: those of ``lab.scenes.pace``, one trial for each round; ``times_lock``, how many
    times the throughput of the lock in the same round; ``of_limit``, the throughput by what the connections could do if
    they did nothing but wait; ``client_cores``, the cores that the clients kept busy; for asyncio and workers also
    ``rps_to_pool``, ``p99_to_pool`` and ``cpu_to_pool``, against as many connections with a thread for each client.
    """
    for kind in DRIVERS:
        for name in MEASURED:
            width = STRATEGIES[name].width
            faster = 1.5 if width == 2 else 2
            role: Role = "hazard" if name in LOCKS else "control" if width == 1 else "remedy"
            checks = [Check("times_lock", ">=", faster)] if role == "remedy" else []
            yield _arm(kind, name, LONG, role, [*checks, *_laws(name, LONG)])


@experiment("pace-cpu-is-the-other-limit", seeds=["T6"], uses=USES, gated=False)
def cpu(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        for name in MEASURED:
            hazard = name == "pool of 50"
            checks = [Check("of_limit", "<=", 0.2)] if hazard else []
            yield _arm(kind, name, SHORT, "hazard" if hazard else "remedy", [*checks, *_laws(name, SHORT)])
        for name in ("pool of 5", "pool of 10"):
            checks = [Check("of_limit", ">=", 0.4), *_laws(name, LONG)]
            yield _arm(kind, name, LONG, "control", checks)


@experiment("pace-workers-do-not-overtake", seeds=["T6"], uses=USES, gated=False)
def overtaken(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        for width in (5, 10, 20):
            yield _arm(kind, f"pool of {width}", LONG, "hazard", [Check("overtaken", ">=", CLIENTS / 2)])
            yield _arm(kind, f"{width} workers", LONG, "remedy", [Check("overtaken", "<", CLIENTS / 2)])


@experiment("pace-asyncio-is-no-faster", seeds=["T6"], uses=USES, gated=False)
def loop(effort: Effort) -> Iterator[Arm]:
    for kind in DRIVERS:
        yield _arm(kind, "one lock", LONG, "hazard", [Check("times_lock", "<=", 1)])
        for width in (10, 20):
            faster = Check("times_lock", ">=", 2)
            yield _arm(kind, f"pool of {width}", LONG, "control", [faster])
            checks = [faster, Check("rps_to_pool", "<=", 1.1)]
            yield _arm(kind, f"asyncio, pool of {width}", LONG, "remedy", checks)


def _laws(name: str, seconds: float) -> list[Check]:
    """What holds on any machine, and that every answer is right."""
    width = STRATEGIES[name].width
    most = [Check("rps", "<=", width / seconds), Check("in_flight", "<=", width)]
    return [*most, Check("bad", "==", 0), Check("right", ">=", CLIENTS)]


def _arm(kind: str, name: str, seconds: float, role: Role, checks: list[Check]) -> Arm:
    run = functools.partial(_trials, kind, name, seconds)
    milliseconds = round(1000 * seconds)
    setup = _setup(kind, name, f"statement of {milliseconds} ms")
    return arm(f"{name}, {kind}, {milliseconds} ms", role, setup, checks, run)


def _setup(kind: str, name: str, request: str = "") -> Setup:
    one = STRATEGIES[name]
    size = f"{one.width // one.processes - one.overflow}" + (f"+{one.overflow}" if one.overflow else "")
    driver, several = DRIVERS[kind][one.kind == "asyncio"], one.processes if one.processes > 1 else 0
    return Setup(kind, driver, request=request, scope=name, pool=size, concurrency=CLIENTS, workers=several)


def _trials(kind: str, name: str, seconds: float) -> list[Trial]:
    load(DRIVERS[kind][STRATEGIES[name].kind == "asyncio"])
    return [compared(row, name, seconds) for row in measured(kind, MEASURED, seconds, ROUNDS, REQUESTS)]


def compared(row: dict[str, dict[str, Any]], name: str, seconds: float) -> Trial:
    """A trial out of one round: what *name* did, and how it compares with the others of the round."""
    facts = dict(row[name])
    tally = _tally(facts.pop("outcomes"))
    facts["times_lock"] = round(facts["rps"] / row["one lock"]["rps"], 2)
    facts["of_limit"] = round(facts["rps"] * seconds / STRATEGIES[name].width, 3)
    facts["client_cores"] = round(facts["rps"] * facts["cpu_us"] / 1e6, 2)
    facts["longest"] = facts["deciles"][-1]
    if (other := row.get(BESIDE.get(name, ""))) is not None:
        ratios = {"rps_to_pool": "rps", "p99_to_pool": "p99", "cpu_to_pool": "cpu_us"}
        facts |= {ratio: round(facts[fact] / other[fact], 2) for ratio, fact in ratios.items()}
    return Trial(tally, facts=facts)


@functools.cache
def measured(kind: str, names: tuple[str, ...], seconds: float, rounds: int, requests: int) -> list[dict[str, Any]]:
    """The rounds of ``lab.scenes.pace``, of the strategies for which there is a driver."""
    with start(kind) as database:
        engines, names = _engines(kind, database, names)
        how = {"kind": kind, "names": names, "seconds": seconds, "clients": CLIENTS, "requests": requests}
        return play(SCENE, engines=engines, server=database.server.pid, rounds=rounds, patience=600, **how)["rounds"]


@functools.cache
def _inside(kind: str, names: tuple[str, ...], trials: int) -> list[dict[str, Any]]:
    with start(kind) as database:
        engines, names = _engines(kind, database, names)
        how = {"engines": engines, "kind": kind, "names": names, "clients": CLIENTS, "trials": trials}
        return play(INSIDE, patience=240, **how)["trials"]


def _inside_trials(kind: str, name: str, names: tuple[str, ...], trials: int) -> Iterable[Trial]:
    load(DRIVERS[kind][STRATEGIES[name].kind == "asyncio"])
    for seen in _inside(kind, names, trials):
        one = seen[name]
        yield Trial(_tally(one["outcomes"]), facts={"inside": one["inside"], "asked": one["asked"]})


def _engines(kind: str, database: Database, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    threads, asyncio = DRIVERS[kind]
    engines = {"threads": arguments(threads, database)}
    try:
        return {**engines, "asyncio": arguments(asyncio, database)}, list(names)
    except components.Missing:
        return engines, [name for name in names if STRATEGIES[name].kind != "asyncio"]


def _tally(outcomes: dict[str, int]) -> Tally:
    messages = {outcome: count for outcome, count in outcomes.items() if outcome not in ("right", "wrong")}
    right, wrong = outcomes.get("right", 0), outcomes.get("wrong", 0)
    return Tally(right, wrong, sum(messages.values()), messages=messages)
