"""The recipe crossing_guard: does it tell of every crossing, and of nothing else; and does ``strict`` prevent them?"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from lab.databases import Database, start
from lab.drivers import ALL_DRIVERS, arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Setup, Survival, Tally, Trial
from lab.trials import NETWORK_DRIVERS

SCENE = "lab.scenes.guard"
USES = ["lab/scenes/guard.py", "recipes/crossing_guard.py"]
# What the parent has at the fork, and what the child does with it.
CROSSINGS = {
    "pooled checkout": ("everything checked in", "one query"),
    "held Connection": ("a Connection checked out", "one query on it"),
    "collected Session": ("a Session in a transaction", "drops and collects it"),
}
ENDINGS = {
    "closed Session": ("a Session in a transaction", "close()"),
    "dispose()": ("everything checked in", "dispose()"),
    "dispose(close=False)": ("everything checked in", "dispose(close=False), then collects"),
}
NO_CROSSING = {
    "no use": ("everything checked in", "nothing"),
    "an engine of its own": ("everything checked in", "one query with an engine of its own"),
}
CASES = {**CROSSINGS, **ENDINGS, **NO_CROSSING}
# Their destructors end the connection, and the pool's events are not asked.
FORGETFUL = ("mysqlclient", "mysql-connector")
# What an event loop's drivers are tried with.
IN_A_LOOP = ("pooled checkout", "held Connection", "no use")


@experiment("crossing-guard-tells", seeds=["F2"], uses=USES)
def tells(effort: Effort) -> Iterator[Arm]:
    some = ("psycopg2", "mysqlclient", "asyncpg", "sqlite")
    names = [name for name, row in ALL_DRIVERS.items() if row.database != "oracle"]
    once = [Check("lines", "==", 1), Check("names_both", "==", True), Check("shows_both_stacks", "==", True)]
    silent = [Check("lines", "==", 0)]
    parent_silent = Check("lines_of_the_parent", "==", 0)
    with _played(effort.pick(3, 1)) as played:
        for name in names if effort.name == "record" else some:
            for case in IN_A_LOOP if driver(name).loop else (*CROSSINGS, *NO_CROSSING):
                crosses = case in CROSSINGS
                it = _setup(name, case, "crossing_guard")
                checks = [*(once if crosses else silent), parent_silent]
                role = "hazard" if crosses else "control"
                yield arm(f"{name}, {case}", role, it, checks, functools.partial(played, name, case, "on"))


@experiment("crossing-guard-strict-prevents", seeds=["F2"], uses=USES)
def prevents(effort: Effort) -> Iterator[Arm]:
    harm = {"collected Session": "transaction lost", "closed Session": "transaction lost", "dispose()": "dead"}
    with _played(effort.pick(3, 1)) as played:
        for name in NETWORK_DRIVERS if effort.name == "record" else ("psycopg2", "mysqlclient"):
            harms = {**harm, "dispose(close=False)": "dead"} if name in FORGETFUL else harm
            for case, state in harms.items():
                run = functools.partial(played, name, case, "off")
                yield arm(
                    f"{name}, {case}, off", "hazard", _setup(name, case, "none"), [Check("parent", "==", state)], run
                )
            for case in (*harms, "held Connection"):
                it = _setup(name, case, "crossing_guard, strict")
                child = "error" if case == "held Connection" else "right"
                checks = [Check("parent", "==", "alive"), Check(child, "==", 1)]
                run = functools.partial(played, name, case, "strict")
                yield arm(f"{name}, {case}, strict", "remedy", it, checks, run)


def _setup(name: str, case: str, remedy: str) -> Setup:
    moment, child = CASES[case]
    return Setup(driver(name).database, name, server="os.fork", remedy=remedy, workers=1, moment=moment, child=child)


@contextlib.contextmanager
def _played(trials: int) -> Iterator[Callable[[str, str, str], list[Trial]]]:
    """A function from driver, case and guard to trials; all cases of a driver are played in one interpreter."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str) -> Database:
            started = stack.enter_context(start(kind))
            started.ask(f"create table {'lab.' if kind == 'mariadb' else ''}kept (n int)")
            return started

        @functools.cache
        def rows(name: str, guard: str) -> list[dict[str, Any]]:
            row = driver(name)
            running = database(row.database)
            engine = arguments(name, running)
            cases = IN_A_LOOP if row.loop else list(CASES)
            how = {"database": row.database, "loop": row.loop, "guard": guard, "cases": cases}
            return [play(SCENE, engine=engine, **how)["rows"] for _ in range(trials)]

        yield lambda name, case, guard: [_trial(got[case], case) for got in rows(name, guard)]


def _trial(got: dict[str, Any], case: str) -> Trial:
    after, child = got["after"], got["outcome"]
    survival = Survival("alive") if after["kind"] == "right" else Survival("dead", after["message"])
    facts = {"lines": len(got["lines"]), "names_both": got["names_both"], "shows_both_stacks": got["stacks"]}
    facts["lines_of_the_parent"] = len(got["parents"])
    if after["value"] is not None:
        facts |= {"rows_written": 2, "rows_kept": after["value"]}
        survival = survival if after["value"] == 2 else Survival("transaction lost")
    return Trial(Tally.of([Outcome(child["kind"], child["message"])]), survival, facts)
