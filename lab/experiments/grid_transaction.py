"""The driver grid, of an open transaction: which claims rest on which cells (:mod:`lab.forkgrid`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.evidence import Effort, experiment
from lab.forkgrid import (
    ALIVE,
    HARMED,
    KILLED,
    RECIPES,
    SERVED,
    TRANSACTION,
    USES,
    Column,
    cells,
    network,
    threads_and_sockets,
)
from lab.shapes import Arm, Check


@experiment("fork-session-close-loses-transaction", uses=RECIPES)
def session_close(effort: Effort) -> Iterator[Arm]:
    closes = ["session.close()", "session.close(), recipe fork_safe_engine"]
    yield from cells(effort, "hazard", closes, HARMED, TRANSACTION, network)
    yield from cells(effort, "control", ["leaves by os._exit"], ALIVE, TRANSACTION)


@experiment("fork-session-dropped-spares-transaction", uses=USES)
def session_dropped(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "control", ["new engine, collect"], ALIVE, TRANSACTION)
    yield from cells(effort, "remedy", ["Session dropped, collect"], ALIVE, TRANSACTION)


@experiment("fork-open-transaction-is-not-the-pools", uses=USES)
def not_the_pools(effort: Effort) -> Iterator[Arm]:
    children = ["dispose()", "close=False", "close=False, collect", "old pool kept, collect", "new engine, collect"]
    children += ["gc.freeze before, collect", "pid guard"]
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "remedy", children, ALIVE, TRANSACTION)


@experiment("fork-ordinary-exit-spares-transaction", uses=RECIPES)
def ordinary_exit_in_a_transaction(effort: Effort) -> Iterator[Arm]:
    children = ["leaves by sys.exit", "close=False, sys.exit", "old pool kept, sys.exit", "gc.freeze before, sys.exit"]
    children += ["recipe multiprocessing_postfork"]
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "control", ["leaves by os._exit"], ALIVE, TRANSACTION)
    yield from cells(effort, "remedy", children, ALIVE, TRANSACTION)


@experiment("fork-safe-engine-spares-transaction", uses=RECIPES)
def fork_safe_engine_in_a_transaction(effort: Effort) -> Iterator[Arm]:
    children = ["recipe fork_safe_engine", "Session dropped, recipe fork_safe_engine"]
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "remedy", children, SERVED, TRANSACTION)


@experiment("fork-session-given-up-spares-transaction", uses=RECIPES)
def session_given_up(effort: Effort) -> Iterator[Arm]:
    dropped = ["Session dropped, recipe multiprocessing_postfork"]
    yield from cells(effort, "hazard", dropped, HARMED, TRANSACTION, threads_and_sockets)
    yield from cells(effort, "remedy", ["Session given up, recipe multiprocessing_postfork"], SERVED, TRANSACTION)


@experiment("fork-postfork-recipe-spares-transaction", uses=RECIPES)
def postfork_recipe(effort: Effort) -> Iterator[Arm]:
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "remedy", ["Session dropped, recipe multiprocessing_postfork"], SERVED, TRANSACTION)


@experiment("fork-descriptor-spares-transaction", uses=USES)
def descriptor_in_a_transaction(effort: Effort) -> Iterator[Arm]:
    children = ["descriptor closed", "/dev/null over descriptor", "Session dropped, /dev/null"]
    yield from cells(effort, "hazard", ["session.close()"], HARMED, TRANSACTION, network)
    yield from cells(effort, "remedy", children, SERVED, TRANSACTION)


@experiment("fork-sqlite-journal", uses=RECIPES)
def sqlite(effort: Effort) -> Iterator[Arm]:
    def journal(name: str) -> Callable[[Column], bool]:
        return lambda column: column.journal == name

    held, both = Check("lock", "==", "held"), Check("kept", "==", 2)
    closes = ["session.close()", "session.close(), recipe fork_safe_engine", "Session dropped, collect"]
    yield from cells(effort, "hazard", closes, [*KILLED, held, both], TRANSACTION, journal("DELETE"))
    yield from cells(
        effort, "control", ["leaves by os._exit", "dispose()"], [*ALIVE, held], TRANSACTION, journal("DELETE")
    )
    yield from cells(effort, "control", closes, [*ALIVE, held], TRANSACTION, journal("WAL"))
