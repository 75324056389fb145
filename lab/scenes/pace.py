"""The same work by many clients at once, by a lock, pools, workers, processes and an event loop: how fast?"""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from lab import keeper
from lab.scenes.pace_strategies import (
    PATIENCE,
    STATEMENT,
    STRATEGIES,
    Load,
    Run,
    Strategy,
    Watch,
    tasks,
    threaded,
)

SLEEP = {"postgresql": "pg_sleep({})", "mariadb": "sleep({})"}
# What one process, or one of several, reports of its part.
Part = dict[str, Any]


def main(
    engines: Mapping[str, Mapping[str, Any]],
    kind: str,
    server: int,
    names: list[str],
    seconds: float,
    rounds: int,
    clients: int,
    requests: int,
) -> dict[str, Any]:
    """Let the strategies take turns, and measure each.

    Args:
        engines: arguments of ``create_engine`` for ``threads`` and, if it is among *names*, for ``asyncio``.
        kind: of database.
        server: its process id.
        names: of the strategies.
        seconds: how long the statement takes on the server.
        rounds: how often the strategies take turns.
        requests: of each client; strategies with one or two connections get half of it.

    Returns:
        For each round by strategy: ``rps``, requests per second; ``deciles``, the latency in milliseconds at 0, 10 …
        100 % of the requests, and ``p50``, ``p90``, ``p99``; ``cpu_us`` and
        ``server_us``, CPU time per request of clients and server, in microseconds, the latter unknown with several
        processes; ``in_flight``, how many transactions
        were at work at once; ``overtaken``, by how many later requests the unluckiest was overtaken; ``outcomes``.
    """
    statement = STATEMENT[kind].format(work=SLEEP[kind].format(seconds))
    rows = []
    with crew([STRATEGIES[name] for name in names], engines["threads"]) as processes:
        for turn in range(rounds):
            row = {}
            # Nobody always comes after the same neighbour.
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                strategy = STRATEGIES[name]
                load = Load(range(clients), requests // 2 if strategy.width < 3 else requests, statement)
                row[name] = _summed(load, put(strategy, engines, load, Watch(), processes, server))
            rows.append(row)
    return {"rounds": rows}


def put(
    strategy: Strategy,
    engines: Mapping[str, Mapping[str, Any]],
    load: Load,
    watch: Watch,
    processes: ProcessPoolExecutor | None,
    server: int = 0,
) -> list[Part]:
    """Put the *load*, and return what each process reports. *watch* is of this process, *server* as in :func:`main`."""
    if strategy.processes > 1:
        shares = [replace(load, clients=load.clients[n :: strategy.processes]) for n in range(strategy.processes)]
        return list(processes.map(_share, shares, timeout=PATIENCE))
    loop = strategy.kind == "asyncio"
    way = tasks if loop else threaded
    with way(strategy, engines["asyncio" if loop else "threads"], load, watch) as run:
        return [_measured(run, watch, server)]


def _measured(run: Run, watch: Watch, server: int = 0) -> Part:
    spent, cpu, begun = _spent(server), time.process_time(), time.monotonic()
    run()
    return {
        "ended": time.monotonic(),
        "begun": begun,
        "cpu": time.process_time() - cpu,
        "server": _spent(server) - spent,
        "seconds": watch.seconds,
        "order": watch.order,
        "most": watch.most,
        "outcomes": watch.outcomes,
    }


@contextlib.contextmanager
def crew(strategies: list[Strategy], settings: Mapping[str, Any]) -> Iterator[ProcessPoolExecutor | None]:
    """The processes of the one of *strategies* that wants some, each with an engine of its own."""
    wants = next((strategy for strategy in strategies if strategy.processes > 1), None)
    if wants is None:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    own = replace(wants, width=wants.width // wants.processes, processes=1)
    with ProcessPoolExecutor(
        wants.processes, context, _enlist, (own, settings, context.Barrier(wants.processes))
    ) as processes:
        yield processes


def _enlist(*given: Any) -> None:
    global _strategy, _settings, _start
    _strategy, _settings, _start = given


def _share(load: Load) -> Part:
    watch = Watch()
    with threaded(_strategy, _settings, load, watch) as run:
        # No process takes two shares, and none begins before the others.
        _start.wait(PATIENCE)
        return _measured(run, watch)


def _summed(load: Load, parts: list[Part]) -> dict[str, Any]:
    total = len(load.clients) * load.requests
    latencies = sorted(1000 * second for part in parts for second in part["seconds"])
    cuts = [latencies[0], *statistics.quantiles(latencies, n=100, method="inclusive"), latencies[-1]]
    elapsed = max(part["ended"] for part in parts) - min(part["begun"] for part in parts)
    return {
        "rps": round(total / elapsed, 1),
        **{f"p{n}": round(cuts[n], 1) for n in (50, 90, 99)},
        "deciles": [round(cut, 1) for cut in cuts[::10]],
        "cpu_us": round(sum(part["cpu"] for part in parts) / total * 1e6),
        "server_us": round(parts[0]["server"] / total * 1e6) or None,
        "in_flight": sum(part["most"] for part in parts),
        "overtaken": max(_overtaken(part["order"]) for part in parts),
        "outcomes": dict(sum((part["outcomes"] for part in parts), Counter())),
    }


def _overtaken(order: list[int]) -> int:
    return max(sum(earlier > ticket for earlier in order[:n]) for n, ticket in enumerate(order))


def _spent(server: int) -> float:
    """CPU time of all threads that the server's processes have now, in seconds; 0 of no server."""
    total = 0
    for pid in (server, *keeper.descendants(server)) if server else ():
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(thread.read_text().split()[0])
    return total / 1e9
