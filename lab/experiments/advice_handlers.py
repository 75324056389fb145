"""Handlers of ``os.register_at_fork`` and the processes that Python starts without ``os.fork`` (C14)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

SCENE = "lab.scenes.advice_handlers"
USES = ["lab/scenes/advice_handlers.py", "recipes/fork_safe_engine.py"]
DRIVERS = ("psycopg2", "PyMySQL", "psycopg", "mysqlclient")
PREEXEC = "subprocess, preexec_fn"
FORKS = ("os.fork", "os.forkpty", "pty.fork", PREEXEC)
SPAWNS = ("subprocess", "subprocess, start_new_session", "os.posix_spawn", "os.system")
RECIPE = "recipe fork_safe_engine"

ALL, NONE = Check("handlers", "==", "all three"), Check("handlers", "==", "none")
ALIVE = [Check("parent", "==", "alive"), Check("right", "==", 1)]
DEAD = [Check("parent", "==", "dead"), Check("error", "==", 1)]


@experiment("at-fork-handlers-and-programs", uses=USES)
def handlers(effort: Effort) -> Iterator[Arm]:
    with start("postgresql") as database:
        noted = [(way, "hazard", "note", [NONE, *ALIVE]) for way in SPAWNS]
        noted += [(way, "control", "note", [ALL, *ALIVE]) for way in FORKS]
        yield from _arms("psycopg2", noted, database)


@experiment("at-fork-dispose-and-preexec", uses=USES)
def preexec(effort: Effort) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(4, 2)]:
        with start(driver(name).database) as database:
            hazards = [(PREEXEC, "hazard", "dispose()", [ALL, *DEAD])]
            controls = [("subprocess", "control", "dispose()", [NONE, *ALIVE]), (PREEXEC, "control", "note", ALIVE)]
            cured = [(PREEXEC, "remedy", RECIPE, [ALL, *ALIVE])]
            yield from _arms(name, [*hazards, *controls, *cured], database)


def _arms(name: str, its: Iterable[tuple[str, Role, str, list[Check]]], database: Database) -> Iterator[Arm]:
    for way, role, handler, checks in its:
        it = Setup(database.kind, name, server=way, workers=1, requests=1, remedy=handler)
        yield arm(f"{name}, {way}, {handler}", role, it, checks, lambda it=it: [_trial(it, database)])


def _trial(it: Setup, database: Database) -> Trial:
    """Facts: ``handlers``, which of the three ran. The one outcome is the parent's question afterwards."""
    engine = arguments(it.driver, database)
    got = play(SCENE, engine=engine, database=it.database, way=it.server, handler=it.remedy)
    parent = Outcome(**got["parent"]["outcome"])
    lives = got["parent"]["backend"] == got["first"]["backend"]
    ran = "none" if not got["ran"] else "all three" if len(set(got["ran"])) == 3 else ", ".join(got["ran"])
    return Trial(Tally.of([parent]), Survival("alive" if lives else "dead", parent.message), {"handlers": ran})
