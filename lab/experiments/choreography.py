"""Two processes on one connection, every step forced: answers swapped, and a wait without end (U4, U8)."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

from sqlalchemy import create_engine

from lab.databases import start
from lab.drivers import arguments, driver, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial
from lab.trials import NETWORK_DRIVERS

USES = ["lab/scenes/choreography.py"]
# mysql-connector reads no byte more than one answer has, so it cannot swallow its sibling's.
READ_AHEAD = [name for name in NETWORK_DRIVERS if name != "mysql-connector"]


def _scene(
    scene: str, names: Sequence[str], role: Role, checks: Sequence[Check], effort: Effort, *, separate: bool = False
) -> Iterator[Arm]:
    remedy = "a connection each" if separate else "none"
    for name in names:
        it = Setup(driver(name).database, name, server="os.fork", remedy=remedy, workers=2, requests=2, concurrency=2)
        trials = effort.pick(10, 1) if role == "hazard" else effort.pick(3, 1)
        yield arm(f"{name}, {remedy}", role, it, checks, lambda it=it, n=trials: _play(scene, it, separate, n))


def _play(scene: str, it: Setup, separate: bool, trials: int) -> Iterator[Trial]:
    module = load(it.driver)
    with start(it.database) as database:
        engine = arguments(it.driver, database)
        for _ in range(trials):
            pings = driver(it.driver).pings
            got = play(
                "lab.scenes.choreography",
                scene=scene,
                database=it.database,
                engine=engine,
                pings=pings,
                separate=separate,
            )
            outcomes = [_outcome(name, got[name]) for name in ("A", "B")]
            facts = {"A": outcomes[0].kind, "B": outcomes[1].kind, "threadsafety": module.threadsafety}
            facts |= {"waits_in": got["A"].get("hung", ""), "bytes_left": got.get("left unread", 0)}
            yield Trial(Tally.of(outcomes), facts=facts)


def _outcome(name: str, got: dict[str, object]) -> Outcome:
    if "error" in got:
        return Outcome("error", str(got["error"]))
    if "hung" in got:
        return Outcome("hung")
    return Outcome("right" if got["got"] == name else "wrong")


@experiment("fork-answers-swapped", seeds=["U4"], uses=USES)
def swapped(effort: Effort) -> Iterator[Arm]:
    yield from _scene("swap", NETWORK_DRIVERS, "hazard", [Check("wrong", "==", 2)], effort)
    yield from _scene("swap", NETWORK_DRIVERS, "control", [Check("right", "==", 2)], effort, separate=True)


@experiment("fork-waits-for-ever", seeds=["U4"], uses=USES)
def waits_for_ever(effort: Effort) -> Iterator[Arm]:
    hung = [Check("A", "==", "hung"), Check("B", "==", "wrong"), Check("bytes_left", "==", 0)]
    yield from _scene("hang", READ_AHEAD, "hazard", hung, effort)
    yield from _scene("hang", READ_AHEAD, "control", [Check("right", "==", 2)], effort, separate=True)


@experiment("thread-safe-is-not-fork-safe", seeds=["U8"], uses=USES)
def thread_safe(effort: Effort) -> Iterator[Arm]:
    names = ["psycopg2", "psycopg"]
    checks = [Check("threadsafety", "==", 2), Check("wrong", "==", 2)]
    yield from _scene("swap", names, "hazard", checks, effort)
    for name in names:
        it = Setup(driver(name).database, name, server="threads", workers=2, requests=100, concurrency=2)
        checks = [Check("threadsafety", "==", 2), Check("bad", "==", 0), Check("total", "==", 200)]
        yield arm(f"{name}, two threads", "control", it, checks, lambda it=it: _two_threads(it, effort.pick(5, 1)))


def _two_threads(it: Setup, trials: int) -> Iterator[Trial]:
    """Two threads ask over one DBAPI connection, each with a cursor of its own for every question."""
    module = load(it.driver)
    with start(it.database) as database:
        engine = create_engine(**arguments(it.driver, database))
        for _ in range(trials):
            outcomes: list[Outcome] = []
            connection = engine.raw_connection()

            def ask(name: str, connection=connection, outcomes=outcomes) -> None:
                for n in range(it.requests):
                    cursor = connection.cursor()
                    cursor.execute("select %s::text", (f"{name}{n}",))
                    (got,) = cursor.fetchone()
                    outcomes.append(Outcome("right" if got == f"{name}{n}" else "wrong"))

            threads = [threading.Thread(target=ask, args=(name,)) for name in "AB"]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            connection.close()
            yield Trial(Tally.of(outcomes), facts={"threadsafety": module.threadsafety})
        engine.dispose()
