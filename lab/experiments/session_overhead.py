"""What the recipes for sessions cost per request: bytes to the server, and CPU time."""

from __future__ import annotations

from collections.abc import Iterator

from lab.costs import SOURCES, Cost
from lab.evidence import Effort, experiment
from lab.scenes.session_overhead import BESIDE, WARM_UP, WAYS
from lab.shapes import Arm

RECIPES = [
    "wsgi_session", "flask_session", "asgi_session", "fastapi_session", "read_your_writes", "fresh_reads",
]  # fmt: skip
USES = ["lab/scenes/session_overhead.py", "lab/wsgi.py", *SOURCES, *(f"recipes/{name}.py" for name in RECIPES)]
DRIVERS = ("psycopg2", "PyMySQL")
# reread() has to know the isolation, and asks for it.
DEAR = ("WSGI, a Session for each query", "WSGI, with Session(), pool_pre_ping", "fresh_reads, reread()")
COST = Cost("lab.scenes.session_overhead", tuple(WAYS), BESIDE, DEAR, WARM_UP)


@experiment("session-recipes-cost", uses=USES)
def cost(effort: Effort) -> Iterator[Arm]:
    yield from COST.arms(effort, DRIVERS)
