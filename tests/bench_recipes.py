"""What the recipes cost: CPU time per checkout, one question and checkin. Run it: ``python -m tests.bench_recipes``.

Client side only: the process's own CPU time, user and system, which the load of the machine hardly touches. The ways
take turns, in many short rounds, and each is compared with the bare engine of its own round.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics

from lab import databases
from lab.components import Missing
from lab.drivers import driver
from lab.experiments.overhead import WAYS, cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("drivers", nargs="*", default=["sqlite", "psycopg2", "PyMySQL"])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--checkouts", type=int, default=100, help="in each way and round")
    given = parser.parse_args()
    width = max(map(len, WAYS))
    with contextlib.ExitStack() as stack:
        for name in given.drivers:
            try:
                running = stack.enter_context(databases.start(driver(name).database))
                rounds = cpu(name, running, given.rounds, given.checkouts)
            except Missing as missing:
                print(missing)
                continue
            print(f"\n{name}: CPU time per checkout, median of {given.rounds} rounds of {given.checkouts}")
            for way in WAYS:
                micros = statistics.median(row[way] for row in rounds)
                more = statistics.median(row[way] - row["bare engine"] for row in rounds)
                print(f"  {way:<{width}} {micros:8.1f} µs   {more:+8.1f} µs beside the bare engine")


if __name__ == "__main__":
    main()
