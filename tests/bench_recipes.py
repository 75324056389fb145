"""What the recipes cost: CPU time per checkout, one question and checkin. Run it: ``python -m tests.bench_recipes``.

Client side only: the process's own CPU time, user and system, which the load of the machine hardly touches. The ways
take turns, in many short rounds, and each is compared with the bare engine of its own round.
"""

from lab.experiments.overhead import WAYS, cpu
from tests.benchmark import run

if __name__ == "__main__":
    run(__doc__.splitlines()[0], "checkout", 100, WAYS, dict.fromkeys(set(WAYS) - {"bare engine"}, "bare engine"), cpu)
