"""A lock, pools, workers, processes and an event loop before the same work. Run it: ``python -m tests.bench_pace``.

The strategies take turns, in several rounds. Ratios to the lock are those of one round, and their medians are printed:
they travel from machine to machine, requests per second do not.
"""

import argparse
import statistics

from lab.components import Missing
from lab.experiments.pace import DRIVERS, LOCKS, REQUESTS, compared, measured
from lab.scenes.pace_strategies import STRATEGIES

SHOWN = {
    "rps": "req/s",
    "times_lock": "× lock",
    "of_limit": "of limit",
    "p50": "p50 ms",
    "p99": "p99 ms",
    "cpu_us": "CPU µs",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("databases", nargs="*", default=[*DRIVERS], help="postgresql, mariadb")
    parser.add_argument("--milliseconds", type=float, default=20, help="that the statement takes on the server")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each client, in each round")
    given = parser.parse_args()
    names = tuple(name for name in STRATEGIES if name != LOCKS[1])
    for kind in given.databases:
        if kind not in DRIVERS:
            parser.error(f"no database {kind!r}; known: {', '.join(DRIVERS)}")
        try:
            rounds = measured(kind, names, given.milliseconds / 1000, given.rounds, given.requests)
        except Missing as missing:
            print(missing)
            continue
        print(f"\n{kind}, a statement of {given.milliseconds:g} ms, medians of {given.rounds} rounds")
        print(" " * 28, *(f"{head:>9}" for head in SHOWN.values()))
        for name in filter(rounds[0].__contains__, names):
            trials = [compared(row, name, given.milliseconds / 1000) for row in rounds]
            medians = (statistics.median(trial.facts[fact] for trial in trials) for fact in SHOWN)
            print(f"  {name:26}", *(f"{value:9.4g}" for value in medians))


if __name__ == "__main__":
    main()
