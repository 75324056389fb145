"""The driver grid, of a connection that is checked in: which claims rest on which cells (:mod:`lab.forkgrid`)."""

from __future__ import annotations

from collections.abc import Iterator

from lab.evidence import Effort, experiment
from lab.forkgrid import (
    ALIVE,
    ASKED,
    IDLE,
    KILLED,
    RECIPES,
    SERVED,
    SHARED,
    TRANSACTION,
    USES,
    Column,
    cells,
    loops,
    network,
    plain,
    threads,
    tls,
)
from lab.shapes import Arm, Check


@experiment("fork-child-dispose-kills-parent", uses=USES)
def dispose(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "control", ["leaves by os._exit"], ALIVE)
    yield from cells(effort, "control", ["dispose()"], ALIVE, where=lambda column: not column.network)


@experiment("fork-close-false-spares-parent", uses=USES)
def close_false(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "control", ["close=False"], ALIVE)
    yield from cells(effort, "remedy", ["close=False, collect"], ALIVE)


@experiment("fork-ordinary-exit-spares-parent", uses=USES)
def ordinary_exit(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "control", ["leaves by os._exit"], ALIVE)
    yield from cells(effort, "remedy", ["leaves by sys.exit", "close=False, sys.exit"], ALIVE)


@experiment("fork-old-pool-kept", uses=USES)
def old_pool_kept(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["old pool kept, collect"], ALIVE)


@experiment("fork-old-pool-kept-until-exit", uses=USES)
def old_pool_kept_until_exit(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["old pool kept, sys.exit"], ALIVE)


@experiment("fork-new-engine-in-child", uses=USES)
def new_engine(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["new engine, collect"], ALIVE)


@experiment("fork-gc-freeze-before", uses=USES)
def gc_freeze(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["gc.freeze before, collect", "gc.freeze before, sys.exit"], ALIVE)


@experiment("fork-pid-guard-spares-parent", uses=USES)
def pid_guard(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["one query"], SHARED)
    yield from cells(effort, "remedy", ["pid guard"], SERVED)


@experiment("fork-descriptor-closed", uses=USES)
def descriptor_closed(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["descriptor closed"], SERVED)


@experiment("fork-descriptor-dev-null", uses=USES)
def descriptor_dev_null(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["/dev/null over descriptor"], SERVED)


@experiment("fork-recipe-spares-parent", uses=RECIPES)
def recipe(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["one query"], SHARED)
    yield from cells(effort, "hazard", ["dispose()"], KILLED, where=network)
    yield from cells(effort, "remedy", ["recipe fork_safe_engine", "recipe multiprocessing_postfork"], SERVED)


@experiment("fork-one-query-tls", uses=USES)
def one_query(effort: Effort) -> Iterator[Arm]:
    for moment in (IDLE, TRANSACTION):
        for child, kind in (("one query", threads), ("one query on the inherited loop", loops)):
            yield from cells(
                effort, "hazard", [child], KILLED, moment, lambda column, kind=kind: kind(column) and tls(column)
            )
            yield from cells(
                effort,
                "control",
                [child],
                [*ALIVE, *ASKED],
                moment,
                lambda column, kind=kind: kind(column) and not column.tls,
            )


@experiment("fork-loop-of-its-own", uses=USES)
def loop_of_its_own(effort: Effort) -> Iterator[Arm]:
    def bound(column: Column) -> bool:
        return plain(column) and column.driver in ("asyncpg", "asyncmy")

    for moment in (IDLE, TRANSACTION):
        yield from cells(effort, "hazard", ["one query"], [*KILLED, Check("child", "==", "error")], moment, bound)
        yield from cells(effort, "control", ["one query on the inherited loop"], [*ALIVE, *ASKED], moment, bound)
        yield from cells(
            effort,
            "control",
            ["one query"],
            [*ALIVE, *ASKED],
            moment,
            lambda column: plain(column) and column.driver == "psycopg async",
        )


@experiment("fork-asyncpg-collected-hangs-parent", uses=USES)
def asyncpg_collected(effort: Effort) -> Iterator[Arm]:
    def asyncpg(column: Column) -> bool:
        return column.driver == "asyncpg"

    deaf = [*KILLED, Check("hung", "==", 1), Check("deaf", "==", True)]
    yield from cells(effort, "hazard", ["close=False, collect", "close=False, sys.exit"], deaf, where=asyncpg)
    yield from cells(effort, "control", ["close=False", "old pool kept, collect"], ALIVE, where=asyncpg)
