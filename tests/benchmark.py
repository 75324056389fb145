"""What the benchmarks share: ways of doing one thing that take turns, and the client's CPU time for each."""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterable, Mapping

from lab import databases
from lab.components import Missing
from lab.databases import Database
from lab.drivers import driver

Rounds = list[dict[str, float]]


def run(
    about: str,
    unit: str,
    times: int,
    ways: Iterable[str],
    beside: Mapping[str, str],
    cpu: Callable[[str, Database, int, int], Rounds],
) -> None:
    """Take drivers and numbers from the command line; print each way's median, and what it costs more than another.

    Args:
        unit: what is timed, in the singular; *times* of them by default, in each way and round.
        beside: the way that another is compared with, in its own round.
        cpu: gives the microseconds per *unit* for each round and way, of a driver's name and its running database.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("drivers", nargs="*", default=["sqlite", "psycopg2", "PyMySQL"])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(f"--{unit}s", type=int, default=times, dest="times", help="in each way and round")
    given = parser.parse_args()
    ways = list(ways)
    width = max(map(len, ways))
    with contextlib.ExitStack() as stack:
        for name in given.drivers:
            try:
                running = stack.enter_context(databases.start(driver(name).database))
                rounds = cpu(name, running, given.rounds, given.times)
            except Missing as missing:
                print(missing)
                continue
            print(f"\n{name}: CPU time per {unit}, median of {given.rounds} rounds of {given.times}")
            for way in ways:
                line = f"  {way:<{width}} {statistics.median(row[way] for row in rounds):8.1f} µs"
                if other := beside.get(way):
                    more = statistics.median(row[way] - row[other] for row in rounds)
                    line += f"   {more:+8.1f} µs beside {other}"
                print(line)
