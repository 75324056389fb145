"""What the recipes for sessions cost: CPU time per request of two queries. Run it: ``python -m tests.bench_sessions``.

Client side only: the process's own CPU time, user and system, which the load of the machine hardly touches. The ways
take turns, in many short rounds, and each recipe is compared with what is written without it, in its own round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics

from lab import databases
from lab.components import Missing
from lab.drivers import driver
from lab.experiments.session_overhead import BESIDE, WAYS, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drivers", nargs="*", default=["sqlite", "psycopg2", "PyMySQL"])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--requests", type=int, default=50, help="in each way and round")
    given = parser.parse_args()
    width = max(map(len, WAYS))
    with contextlib.ExitStack() as stack:
        for name in given.drivers:
            try:
                running = stack.enter_context(databases.start(driver(name).database))
                rounds = cpu(name, running, given.rounds, given.requests)
            except Missing as missing:
                print(missing)
                continue
            print(f"\n{name}: CPU time per request, median of {given.rounds} rounds of {given.requests}")
            for way in WAYS:
                micros = statistics.median(row[way] for row in rounds)
                line = f"  {way:<{width}} {micros:8.1f} µs"
                if beside := BESIDE.get(way):
                    more = statistics.median(row[way] - row[beside] for row in rounds)
                    line += f"   {more:+8.1f} µs beside {beside}"
                print(line)


if __name__ == "__main__":
    main()
