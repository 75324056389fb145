"""What the recipes for threads and tasks cost per request: bytes to the server, and CPU time."""

from __future__ import annotations

from collections.abc import Iterator

from lab.costs import SOURCES, Cost
from lab.evidence import Effort, experiment
from lab.scenes.thread_overhead import BESIDE, WARM_UP, WAYS
from lab.shapes import Arm

RECIPES = [
    "thread_session", "scoped_registry", "retry_transaction", "leak_watch", "task_session", "threaded_server",
]  # fmt: skip
USES = [
    "lab/scenes/thread_overhead.py", "lab/scenes/session_overhead.py", *SOURCES,
    *(f"recipes/{name}.py" for name in RECIPES),
]  # fmt: skip
COST = Cost("lab.scenes.thread_overhead", tuple(WAYS), BESIDE, ("a Session for each query",), WARM_UP)


@experiment("thread-recipes-cost", uses=USES)
def cost(effort: Effort) -> Iterator[Arm]:
    yield from COST.arms(effort, ("psycopg2", "PyMySQL"))
