"""What the recipes for threads and tasks cost: CPU time per request of two queries: ``python -m tests.bench_threads``.

Client side only: the process's own CPU time, user and system, which the load of the machine hardly touches. The ways
take turns, in many short rounds, and each recipe is compared with what is written without it, in its own round. Of the
two servers the client is in the process, and in the count.
"""

from lab.experiments.thread_overhead import COST
from tests.benchmark import run

if __name__ == "__main__":
    run(__doc__.splitlines()[0], "request", 50, COST.ways, COST.beside, COST.cpu)
