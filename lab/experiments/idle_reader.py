"""The cost nobody mentions: a reader whose Session stays open, who comes to alter the table, and who comes after."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.databases import Database, start
from lab.drivers import ALL_DRIVERS, arguments, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.ddl"
USES = ["lab/scenes/ddl.py"]
SERVERS = ("psycopg2", "psycopg", "PyMySQL")
ENDS = ("close()", "remove()", "commit()", "rollback()", "AUTOCOMMIT")
OPEN, LOCK, IDLE, BEGUN = "left open", "left open, lock timeout", "left open, idle timeout", "left open after BEGIN"
CASES = {name: (OPEN, *ENDS, LOCK, IDLE) for name in SERVERS}
CASES["sqlite"] = (OPEN, f"{BEGUN}, lock timeout")

BOTH = ("ALTER TABLE", "another SELECT")
QUEUED = {"the reader": "idle in transaction", **dict.fromkeys(BOTH, "blocked"), "waiting": 2}
FREED = {f"{name} after close()": "right" for name in BOTH}
PASSES = {**dict.fromkeys(BOTH, "right"), "waiting": 0}
_played: dict[tuple[str, int], dict[str, Any]] = {}


@experiment("idle-reader-blocks-ddl", uses=USES)
def blocks_ddl(effort: Effort) -> Iterator[Arm]:
    """Facts: what became of each statement; ``waiting``, the sessions that wait for a lock, as the server counts."""
    with _stage(effort) as arms:
        for name in SERVERS:
            yield arms("hazard", name, OPEN, {**QUEUED, **FREED})
            yield arms("hazard", name, LOCK, {"ALTER TABLE": "error", "another SELECT": "right"})
            yield arms("control", name, "close()", PASSES)
        yield arms("hazard", "sqlite", f"{BEGUN}, lock timeout", {"ALTER TABLE": "error"})
        yield arms("control", "sqlite", OPEN, PASSES)


@experiment("idle-reader-autocommit-does-not", uses=USES)
def autocommit(effort: Effort) -> Iterator[Arm]:
    with _stage(effort) as arms:
        for name in SERVERS:
            yield arms("hazard", name, OPEN, QUEUED)
            for end in ENDS:
                yield arms("remedy", name, end, {"the reader": "idle", **PASSES})


@experiment("idle-in-transaction-timeout", uses=USES)
def idle_timeout(effort: Effort) -> Iterator[Arm]:
    told = {"the reader's next read": "error", "after rollback()": "right"}
    with _stage(effort) as arms:
        for name in SERVERS:
            yield arms("hazard", name, OPEN, QUEUED)
            yield arms("remedy", name, IDLE, {**dict.fromkeys(BOTH, "right"), **told})


@contextlib.contextmanager
def _stage(effort: Effort) -> Iterator[Callable[[Role, str, str, Mapping[str, Any]], Arm]]:
    """A function from a role, a driver, a case and what is expected of it to the arm."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str) -> Database:
            return stack.enter_context(start(kind))

        def played(name: str, nth: int) -> dict[str, Any]:
            # All three claims rest on the same run, which is made once.
            if (name, nth) not in _played:
                kind = ALL_DRIVERS[name].database
                engine = arguments(name, database(kind))
                _played[name, nth] = play(SCENE, engine=engine, database=kind, cases=CASES[name], patience=180)
            return _played[name, nth]

        def arms(role: Role, name: str, case: str, expected: Mapping[str, Any]) -> Arm:
            def run() -> Iterator[Trial]:
                load(name)
                for nth in range(effort.pick(5, 1)):
                    got = played(name, nth)[case]
                    yield Trial(facts={**got["facts"], "says": got["says"]})

            checks = [Check(fact, "==", value) for fact, value in expected.items()]
            return arm(f"{name}, {case}", role, Setup(ALL_DRIVERS[name].database, name, remedy=case), checks, run)

        yield arms
