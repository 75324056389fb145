"""The life of a forker whose parent has one connection open: two laps of jobs, new children in between, and an end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lab import keeper, load
from lab.databases import Database
from lab.drivers import arguments
from lab.forkers import CHILDREN, FORKERS, Running
from lab.shapes import Outcome, Setup, Survival, Tally, Trial

LAPS = ("first", "again")
START_METHOD = "set_start_method: "
Row = Mapping[str, Any]


def live(it: Setup, database: Database) -> Trial:
    """Run the forker ``it.server`` once. ``it.moment`` is what its parent does at import, or the start method it sets.

    Facts:
        on_one_connection: in the first lap, the largest number of processes that were answered over one.
        inherited: jobs of the first lap that went out over a connection which another process had opened;
            ``inherited_again``, those of the second lap in children that were not there in the first.
        errors_first: errors in the first lap.
        new_process: when the processes that do the jobs come to be; ``replaced``, how many of the second lap are new.
        at_fork_handlers: which handlers of ``os.register_at_fork`` ran, in the parent or in every child.
        register_after_fork: whether what ``multiprocessing.util`` was given by that name ran in every child.
        hook: the forker's own hook, if it ran exactly once in every child.
        hook_in_parent: how often it ran in the parent.
        children_end: how; and ``atexit``, whether their handlers ran.
        hand_over: what came of passing the engine to a child.
        default: the default start method of this Python.
    """
    method = it.moment.removeprefix(START_METHOD) if it.moment.startswith(START_METHOD) else ""
    settings = {
        "engine": arguments(it.driver, database, tls=it.tls),
        "database": it.database,
        "remedy": it.remedy,
        "at_import": "one SELECT" if method or not it.moment else it.moment,
        "start_method": method,
    }
    with FORKERS[it.server].run(settings) as running:
        parent = running.process.pid
        there = keeper.descendants(parent)
        outcomes = _lap(running, LAPS[0])
        running.replace()
        outcomes += _lap(running, LAPS[1])
        survival = _survival(running, parent, database)
        running.stop()
        return Trial(Tally.of(outcomes), survival, _facts(running.report(), parent, there))


def _lap(running: Running, lap: str) -> list[Outcome]:
    running.give(lap, [f"{lap}-{number}" for number in range(CHILDREN)])
    deadline = time.monotonic() + 60
    while len(rows := _of_lap(running.report("job"), lap)) < CHILDREN and time.monotonic() < deadline:
        running.process.check()
        time.sleep(0.01)
    return [Outcome(**row["outcome"]) for row in rows] + [Outcome("hung")] * (CHILDREN - len(rows))


def _survival(running: Running, parent: int, database: Database) -> Survival | None:
    """What the database says of the connection that the parent opened; None where the parent has none."""
    opened = {row["backend"] for row in running.report("import") if row["pid"] == parent}
    if not opened:
        return None
    # The server may need a moment for a goodbye that has reached it.
    deadline = time.monotonic() + 0.3
    while (alive := opened <= set(database.sessions())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return Survival("alive" if alive else "dead")


def _facts(rows: Sequence[Row], parent: int, there: Iterable[int]) -> dict[str, Any]:
    first, again = (_of_lap((row for row in rows if row["event"] == "job"), lap) for lap in LAPS)
    pids, later = ({row["pid"] for row in lap} for lap in (first, again))
    children = (pids | later) - {parent}

    def ran(event: str, among: set[int]) -> bool:
        return bool(among) and among <= {row["pid"] for row in rows if row["event"] == event}

    def at_the_end(event: str) -> bool:
        # Those of the first lap that were killed told nothing, nor did those of the second that were stopped halfway.
        return ran(event, pids - {parent}) or ran(event, later - {parent})

    # Where a forkserver forks, that is the parent of the children.
    somewhere = {row["event"] for row in rows if children and row["pid"] not in children}
    handlers = [name for name in ("before", "after_in_parent") if name in somewhere]
    handlers += ["after_in_child"] if ran("after_in_child", children) else []
    hooked = Counter(row["pid"] for row in rows if row["event"] == "hook")
    once = bool(children) and all(hooked[pid] == 1 for pid in children)
    return {
        "on_one_connection": load.sharing(load.Answer(Outcome("right"), row["pid"], row["backend"]) for row in first),
        "inherited": _inherited(first),
        "inherited_again": _inherited(row for row in again if row["pid"] not in pids),
        "errors_first": sum(row["outcome"]["kind"] == "error" for row in first),
        "new_process": _when(pids, later, parent, there),
        "replaced": len(later - pids),
        "at_fork_handlers": "all three" if len(handlers) == 3 else ", ".join(handlers) or "none",
        "register_after_fork": ran("register_after_fork", children),
        "hook": next(row["name"] for row in rows if row["event"] == "hook") if once else "none",
        "hook_in_parent": hooked[parent],
        "children_end": ("ordinary exit" if at_the_end("finalised") else "os._exit") if children else "",
        "atexit": at_the_end("atexit"),
        "hand_over": next((row["said"] for row in rows if row["event"] == "hand over"), ""),
        "default": next((row["method"] for row in rows if row["event"] == "ready"), ""),
    }


def _inherited(jobs: Iterable[Row]) -> int:
    return sum(row["opened_by"] not in (0, row["pid"]) for row in jobs)


def _of_lap(jobs: Iterable[Row], lap: str) -> list[Row]:
    return [row for row in jobs if row["lap"] == lap]


def _when(first: set[int], again: set[int], parent: int, there: Iterable[int]) -> str:
    if first == {parent}:
        return "never"
    if first <= set(there):
        return "at the start"
    return "with the first jobs" if first == again else "for each job"
