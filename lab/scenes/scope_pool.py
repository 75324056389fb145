"""Jobs in threads of a pool that never end, and what a job finds of the one that had its thread before."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, update
from sqlalchemy.exc import PendingRollbackError

from lab.drivers import spoken
from lab.pages import STORED, Page, Truth, change, same, touch
from lab.scenes.scope_lanes import Lane, Way, make_way

DIRTY, READS, LEFT, FAILED = (
    "the next job commits",
    "the next job reads",
    "connections after the jobs",
    "jobs after a failed flush",
)
THREADS, NEXT = 5, 3
NEW = "new"
held: list[Page] = []


class JobError(Exception):
    """A job gives up."""


def main(arguments: Mapping[str, Any], database: str, names: Sequence[str]) -> dict[str, Any]:
    """Return by name of a way, of :func:`lab.scenes.scope_lanes.make_way`, words by row.

    ``out`` is how many connections are checked out after a job in each of five threads, ``open`` how many transactions
    the server has open then, ``after shutdown`` when
    the pool is shut down, ``after a collection`` at last; ``failed jobs`` how many of three failed after a failed
    flush, ``elsewhere`` of those in another thread.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
    """
    # What frees a connection is asked; it is not to be the collector.
    gc.disable()
    truth = Truth(arguments, database)
    return {name: _play(truth, name) for name in names}


def _play(truth: Truth, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"says": {}}
    for scene in (_dirty, _reads, _failed, _left):
        truth.rewind()
        engine = truth.engine()
        lanes = [Lane(f"T{n}") for n in range(THREADS)]
        seen = scene(truth, engine, make_way(name, engine), lanes)
        found["says"] |= seen.pop("says", {})
        found |= seen
        for lane in lanes:
            lane.end()
        gc.collect()
        engine.dispose()
    return found


def _attempt(lane: Lane, way: Way, job: Callable[[Any], Any]) -> Exception | None:
    try:
        lane(way, job)
    except Exception as problem:
        return problem.with_traceback(None)
    return None


def _gives_up(session: Any) -> None:
    change(session)
    raise JobError("half-way")


def _dirty(truth: Truth, engine: Engine, way: Way, lanes: Sequence[Lane]) -> dict[str, Any]:
    """A job fails after a flush, and the pool goes on."""
    _attempt(lanes[0], way, _gives_up)
    lanes[0](way, touch)
    return {DIRTY: "right" if truth.stored() == STORED else "dirty"}


def _reads(truth: Truth, engine: Engine, way: Way, lanes: Sequence[Lane]) -> dict[str, Any]:
    """A job reads a page, which something keeps, and another process changes it before the next job."""
    lanes[0](way, lambda session: held.append(session.get_one(Page, 1)))
    with engine.begin() as connection:
        connection.execute(update(Page).where(Page.id == 1).values(body=NEW))
    body = lanes[0](way, lambda session: session.get_one(Page, 1).body)
    held.clear()
    return {READS: "new" if body == NEW else "old"}


def _failed(truth: Truth, engine: Engine, way: Way, lanes: Sequence[Lane]) -> dict[str, Any]:
    """A job's flush fails, and the pool goes on, in that thread and in another."""

    def fails(session: Any) -> None:
        session.add(Page(id=2, body="twice"))
        session.flush()

    _attempt(lanes[0], way, fails)
    problems = [_attempt(lanes[0], way, touch) for _ in range(NEXT)]
    elsewhere = [_attempt(lanes[1], way, touch) for _ in range(NEXT)]
    kinds = {isinstance(problem, PendingRollbackError) for problem in problems}
    return {
        FAILED: "error" if kinds == {True} else "right" if kinds == {False} else "late",
        "failed jobs": sum(problem is not None for problem in problems),
        "elsewhere": sum(problem is not None for problem in elsewhere),
        "says": {FAILED: sorted({same(spoken(problem)) for problem in problems if problem})},
    }


def _left(truth: Truth, engine: Engine, way: Way, lanes: Sequence[Lane]) -> dict[str, Any]:
    """A job in each thread has done no more than read; then the pool is shut down."""
    for lane in lanes:
        lane(way, lambda session: session.get_one(Page, 1).body)
    out, still = engine.pool.checkedout(), truth.open_transactions()
    for lane in lanes:
        lane.end()
    shut = truth.open_transactions()
    gc.collect()
    return {
        LEFT: "leaked" if out else "right",
        "out": out,
        "open": still,
        "after shutdown": shut,
        "after a collection": truth.open_transactions(),
    }
