"""One row of the driver grid with the oldest and the newest SQLAlchemy: what an ordinary exit does to a transaction."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
from collections.abc import Iterator
from typing import Any

from lab import databases
from lab.components import Missing
from lab.databases import Database
from lab.drivers import QUESTION, arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.forkgrid import ALIVE, CHILDREN, RECIPES, TRANSACTION
from lab.process import ROOT, play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

OLDEST = ROOT / ".venv" / "oldest"
# None of these says anything to the server when it is freed in a child: what is seen is SQLAlchemy's doing.
DRIVERS = ("psycopg2", "psycopg", "pg8000", "PyMySQL")
SILENT = [Check("parent", "==", "transaction lost"), Check("error", "==", 0), Check("kept", "==", 1)]


@experiment("fork-ordinary-exit-by-release", uses=RECIPES)
def by_release(effort: Effort) -> Iterator[Arm]:
    with contextlib.ExitStack() as stack:
        started = functools.cache(lambda kind: _started(stack, kind))
        cases: tuple[tuple[Role, str, str, list[Check]], ...] = (
            ("hazard", "oldest", "leaves by sys.exit", SILENT),
            ("control", "newest", "leaves by sys.exit", ALIVE),
            ("remedy", "oldest", "recipe fork_safe_engine", ALIVE),
        )
        for role, release, child, checks in cases:
            for name in DRIVERS:
                it = Setup(driver(name).database, name, server="os.fork", moment=TRANSACTION, child=child)
                run = functools.partial(_trials, it, release, started, effort.pick(3, 1))
                yield arm(f"{name}, {release} SQLAlchemy: {child}", role, it, checks, run)


def _started(stack: contextlib.ExitStack, kind: str) -> Database:
    database = stack.enter_context(databases.start(kind))
    database.ask(f"create table {_table(kind)} (token varchar(32), nth int)")
    return database


def _table(kind: str) -> str:
    return "lab.fork_grid" if kind == "mariadb" else "fork_grid"


def _trials(it: Setup, release: str, started: Any, trials: int) -> Iterator[Trial]:
    """Facts: ``sqlalchemy``, the release; ``kept``, how many of the transaction's two rows are there."""
    if not OLDEST.exists():
        raise Missing("SQLAlchemy 2.0 is missing; the experiment with two releases needs it; to install it: make setup")
    database = started(it.database)
    places = [str(OLDEST)] if release == "oldest" else []
    version = next(importlib.metadata.distributions(name="SQLAlchemy", **({"path": places} if places else {}))).version
    scene = {"engine": arguments(it.driver, database), "question": QUESTION[it.database], "loop": False}
    under = ["env", f"PYTHONPATH={':'.join([*places, str(ROOT)])}"]
    for row in play("lab.scenes.grid", under=under, rows=[(it.moment, CHILDREN[it.child])] * trials, **scene)["rows"]:
        kept = len(database.ask(f"select nth from {_table(it.database)} where token = '{row['token']}'"))
        errors = [answer["message"] for answer in row["after"] if answer["kind"] == "error"]
        lost = Survival("alive" if kept == 2 else "transaction lost")
        tally = Tally.of(Outcome(answer["kind"], answer["message"]) for answer in row["after"])
        yield Trial(tally, Survival("dead", errors[0]) if errors else lost, {"sqlalchemy": version, "kept": kept})
