"""Where the pool brings everybody to a standstill: FastAPI's threads, and threads that hold one connection and ask for
another.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab import evidence
from lab.apps.pool_fastapi import MODEL, ONE_STEP, USER_FIRST
from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.pools import setting
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

FASTAPI = ["lab/scenes/pool_fastapi.py", "lab/apps/pool_fastapi.py", "lab/pools.py", "recipes/fastapi_session.py"]
NESTED = ["lab/scenes/pool_nested.py", "lab/pools.py"]
THREADS, CONNECTIONS = (2, 4, 8), (1, 2, 4, 8, 16)
AT_THE_GATE = ((2, 8), (4, 4), (4, 2))
# anyio's limiter as it comes, and SQLAlchemy's pool as it comes.
DEFAULTS = (40, 15)
YIELDS, RECIPE = "a dependency that yields", "recipe fastapi_session"
COMMITS = "commit() in the dependency"


# threads, connections, requests, what a request does, who holds the Session, the pool's timeout
Cell = tuple[int, int, int, str, str, float]
FIELDS = ("threads", "connections", "requests", "shape", "remedy", "timeout")


@experiment("pool-fastapi-standstill", uses=FASTAPI)
def fastapi_standstill(effort: Effort) -> Iterator[Arm]:
    """Facts: ``state``, "right" if every request was answered without help; how many requests ``held`` a connection,
    and how many threads ``waited`` for one, when it stood still; ``threads needed`` for it to move.
    """
    pairs = [(threads, connections) for threads in THREADS for connections in CONNECTIONS]
    pairs = [*pairs, DEFAULTS] if effort.name == "record" else [*AT_THE_GATE]
    cases = [("psycopg", USER_FIRST, *pair) for pair in pairs]
    cases += [("psycopg", MODEL, 4, 2), ("PyMySQL", USER_FIRST, 4, 2)]
    arms: list[tuple[str, Role, Cell, list[Check]]] = []
    for name, shape, threads, connections in cases:
        least = threads + connections
        still = [Check("state", "==", "hangs"), Check("held", "==", connections), Check("waited", "==", threads)]
        still += [Check("threads needed", "==", threads + 1), Check("right", "==", least)]
        fine = [Check("state", "==", "right"), Check("right", "==", least - 1)]
        arms.append((name, "hazard", (threads, connections, least, shape, YIELDS, 60), still))
        arms.append((name, "control", (threads, connections, least - 1, shape, YIELDS, 60), fine))
    arms.append(("psycopg", "hazard", (4, 2, 6, USER_FIRST, YIELDS, 0.5), [Check("error", ">=", 1)]))
    yield from _arms(effort, arms)


@experiment("pool-fastapi-standstill-remedies", uses=FASTAPI)
def fastapi_remedies(effort: Effort) -> Iterator[Arm]:
    still, fine = [Check("state", "==", "hangs")], [Check("state", "==", "right")]
    cases: list[tuple[str, str, Role]] = [
        (YIELDS, USER_FIRST, "hazard"),
        (YIELDS, MODEL, "hazard"),
        (RECIPE, USER_FIRST, "hazard"),
        (RECIPE, MODEL, "hazard"),
        (COMMITS, MODEL, "hazard"),
        (YIELDS, ONE_STEP, "control"),
        (COMMITS, USER_FIRST, "remedy"),
        ("a Session in each function", USER_FIRST, "remedy"),
        ("a Session in each function", MODEL, "remedy"),
        ("max_concurrency", USER_FIRST, "remedy"),
        ("max_concurrency", MODEL, "remedy"),
        ("a semaphore around the application", USER_FIRST, "remedy"),
        ("a semaphore around the application", MODEL, "remedy"),
    ]
    arms: list[tuple[str, Role, Cell, list[Check]]] = []
    for name in ("psycopg", "PyMySQL")[: effort.pick(2, 1)]:
        for remedy, shape, role in cases:
            arms.append((name, role, (4, 2, 6, shape, remedy, 60), still if role == "hazard" else fine))
    for name in ("psycopg async", "asyncmy")[: effort.pick(2, 1)]:
        arms.append((name, "remedy", (4, 2, 6, USER_FIRST, "AsyncSession, async def", 60), fine))
    yield from _arms(effort, [(*rest, [*checks, Check("right", "==", 6)]) for *rest, checks in arms])


def _arms(effort: Effort, arms: list[tuple[str, Role, Cell, list[Check]]]) -> Iterator[Arm]:
    for name, role, cell, checks in arms:
        threads, connections, requests, shape, remedy, timeout = cell
        fields = {"threads": threads, "concurrency": requests, "request": shape, "remedy": remedy}
        it = Setup(**setting(name, f"{connections}+0"), framework="FastAPI", **fields)
        cells = tuple(other for of, _, other, _ in arms if of == name)
        told = [name, f"{threads} threads", f"{connections} connections", f"{requests} requests", shape, remedy]
        told += ["pool_timeout 0.5 s"] if timeout < 1 else []
        run = functools.partial(_trials, name, cells, cells.index(cell), effort.pick(3, 1))
        yield arm(", ".join(told), role, it, checks, run)


def _trials(name: str, cells: tuple[Cell, ...], index: int, count: int) -> Iterator[Trial]:
    got = _played(name, cells, count)
    for component, version in got["versions"].items():
        evidence.saw(component, version)
    for seen in got["cells"][index * count : (index + 1) * count]:
        tally = Tally(seen["right"], error=seen["errors"], messages=dict.fromkeys(seen["messages"], seen["errors"]))
        facts = {key: seen[key] for key in ("held", "waited", "threads needed") if key in seen}
        yield Trial(tally, facts={**facts, "state": "hangs" if seen["stands"] else "right"})


@functools.cache
def _played(name: str, cells: tuple[Cell, ...], count: int) -> dict[str, Any]:
    """Every cell *count* times, one after another, in one interpreter."""
    asked = [dict(zip(FIELDS, cell, strict=True)) for cell in cells for _ in range(count)]
    with start(driver(name).database) as database:
        how = {"engine": arguments(name, database), "loop": driver(name).loop}
        return play("lab.scenes.pool_fastapi", **how, cells=asked, patience=400)


@experiment("pool-second-connection", uses=NESTED)
def second_connection(effort: Effort) -> Iterator[Arm]:
    """Facts: ``state``, "right" if every thread ended well; ``all_waited``, whether all waited for the pool at once."""
    cells = [(threads, size, 2) for threads in (2, 4, 8) for size in (1, 2, 3, 4, 5, 8, 9)]
    cells += [(4, 7, 3), (4, 8, 3), (4, 9, 3), (8, 1, 1)]
    if effort.name == "gate":
        cells = [(4, 1, 2), (4, 4, 2), (4, 5, 2), (4, 8, 3), (4, 9, 3), (8, 1, 1)]
    for name in ("psycopg", "PyMySQL")[: effort.pick(2, 1)]:
        for cell in cells:
            threads, size, each = cell
            still = size <= threads * (each - 1)
            role: Role = "hazard" if still else "remedy" if each == 1 else "control"
            checks = [Check("all_waited", "==", True), Check("error", ">=", 1)]
            checks = checks if still else [Check("state", "==", "right"), Check("right", "==", threads)]
            held = "1 connection each" if each == 1 else f"{each} connections each"
            it = Setup(**setting(name, f"{size}+0"), threads=threads, held=held)
            run = functools.partial(_nested, name, tuple(cells), cells.index(cell), effort.pick(3, 1))
            yield arm(f"{name}, {threads} threads, {held}, pool {size}", role, it, checks, run)


def _nested(name: str, cells: tuple[tuple[int, int, int], ...], index: int, count: int) -> Iterator[Trial]:
    for told in _nested_played(name, cells, count):
        seen = told[index]
        wrong = cells[index][0] - seen["right"]
        tally = Tally(seen["right"], error=wrong, messages=dict.fromkeys(seen["messages"], wrong))
        yield Trial(tally, facts={"state": "hangs" if wrong else "right", "all_waited": seen["all_waited"]})


@functools.cache
def _nested_played(name: str, cells: tuple[tuple[int, int, int], ...], count: int) -> list[Any]:
    asked = [dict(zip(("threads", "connections", "each"), cell, strict=True)) for cell in cells]
    with start(driver(name).database) as database:
        how = {"engine": arguments(name, database), "patience": 120}
        # So many at a time as the server has connections for.
        groups = [asked[at : at + 12] for at in range(0, len(asked), 12)]
        return [
            [seen for group in groups for seen in play("lab.scenes.pool_nested", cells=group, **how)]
            for _ in range(count)
        ]
