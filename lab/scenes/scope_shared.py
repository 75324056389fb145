"""A thread in the middle of its work, and what another one does to it: with its own Session, or with the same one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session, close_all_sessions, scoped_session, sessionmaker

from lab.drivers import QUESTION, spoken
from lab.pages import CHANGED, STORED, Page, Truth, change, same, written
from lab.scenes.scope_lanes import GLOBAL, NO_REMOVE, Lane, Way, make_way
from recipes.thread_session import WrongThread

NOTHING, CLOSE_ALL, OWN_REMOVE = "nothing", "close_all_sessions()", "remove()"
LEFT, LAZY, WRITE = "a connection that a request left", "a lazy load under way", "a change under way"


def main(arguments: Mapping[str, Any], database: str, shared: Sequence[str], counted: Sequence[str]) -> dict[str, Any]:
    """Return by way of *shared* what became of a thread's work; of *counted*, how many Sessions four threads have.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
        shared, counted: names of :func:`lab.scenes.scope_lanes.make_way`.

    Under "teardown" it says the same of what a request of another thread does at its end: words by row.
    """
    truth = Truth(arguments, database)
    return {
        "counted": {way: _count(truth, way, QUESTION[database]) for way in counted},
        "shared": {way: _told(truth, way) for way in shared},
        "teardown": {what: _teardown(truth, what) for what in (NOTHING, CLOSE_ALL, OWN_REMOVE)},
    }


@contextlib.contextmanager
def staged(truth: Truth, **options: Any) -> Iterator[tuple[Engine, Lane, Lane]]:
    """The pages as they were, an engine, and two threads."""
    truth.rewind()
    engine, a, b = truth.engine(**options), Lane("A"), Lane("B")
    try:
        yield engine, a, b
    finally:
        for lane in (a, b):
            lane.end()
        engine.dispose()


def _count(truth: Truth, name: str, question: str) -> dict[str, Any]:
    """Four threads ask twice each, one after the other, and keep what they get."""
    truth.rewind()
    engine, lanes = truth.engine(), [Lane(f"T{n}") for n in range(4)]
    way = make_way(name, engine)

    def ask(session: Any) -> tuple[Session, int]:
        real = session.registry() if isinstance(session, scoped_session) else session
        return real, session.execute(text(question), {"nonce": ""}).one().backend

    def twice() -> list[tuple[Session, int]]:
        # Within one unit of work, where there is such a thing.
        return way(lambda session: [ask(session), ask(session)])

    seen = [lane(twice) for lane in lanes]
    found = {
        "sessions": len({id(session) for pair in seen for session, _ in pair}),
        "connections": len({backend for pair in seen for _, backend in pair}),
        "threads with one": sum(first[0] is second[0] for first, second in seen),
    }
    if name in (GLOBAL, NO_REMOVE):
        again = [lane(way, ask)[0] for lane in lanes]
        found["the same at the next job"] = sum(
            pair[0][0] is session for pair, session in zip(seen, again, strict=True)
        )
    for lane in lanes:
        lane.end()
    del seen
    close_all_sessions()
    engine.dispose()
    return found


def _told(truth: Truth, name: str) -> dict[str, Any]:
    """What A gets when B, in a job of its own, rolls back, commits or closes; and what B is told."""
    says: dict[str, list[str]] = {}
    words: dict[str, str] = {}
    rows: dict[str, tuple[Callable[..., str], Callable[[Any], object]]] = {
        "A commits, B has rolled back": (_acknowledged, lambda session: session.rollback()),
        "A rolls back, B has committed": (_given_up, lambda session: session.commit()),
        "A loads lazily, B has closed": (_lazy, lambda session: session.close()),
    }
    for row, (work, act) in rows.items():
        said: list[str] = []
        with staged(truth) as (engine, a, b):
            # What is made now is made in A.
            way = a(make_way, name, engine)

            def meanwhile(b: Lane = b, way: Way = way, act: Any = act, said: list[str] = said) -> None:
                try:
                    b(way, lambda session: (session.get_one(Page, 2), act(session)))
                except Exception as problem:
                    said.append(f"B: {same(spoken(problem))}")

            try:
                words[row] = a(work, truth, way, meanwhile)
            except Exception as problem:
                words[row] = "error"
                said.append(f"A: {same(spoken(problem))}")
            for lane in (a, b):
                with contextlib.suppress(WrongThread):
                    lane(way, lambda session: session.rollback())
        says[row] = said
    return {**words, "says": says}


def _acknowledged(truth: Truth, way: Way, meanwhile: Callable[[], None]) -> str:
    def job(session: Any) -> None:
        session.get_one(Page, 1).body = CHANGED
        session.flush()
        meanwhile()
        session.commit()

    way(job)
    # No exception: A's client has been told that it is saved.
    return "right" if truth.stored() == CHANGED else "lost"


def _given_up(truth: Truth, way: Way, meanwhile: Callable[[], None]) -> str:
    def job(session: Any) -> None:
        change(session)
        meanwhile()
        session.rollback()

    way(job)
    return "right" if truth.stored() == STORED else "dirty"


def _lazy(truth: Truth, way: Way, meanwhile: Callable[[], None]) -> str:
    def job(session: Any) -> list[str]:
        page = session.get_one(Page, 1)
        meanwhile()
        return written(page)

    return "right" if way(job)[0] == STORED else "stale"


def _teardown(truth: Truth, what: str) -> dict[str, Any]:
    """C's request is over, A's is at work, and B's ends by *what*; so does C's, where it is the thread's own to do."""
    words, says = {}, {}
    for row, work in ((LAZY, _lazy), (WRITE, _acknowledged)):
        with staged(truth) as (engine, a, b):
            registry = scoped_session(sessionmaker(engine))
            ends = {NOTHING: lambda: None, CLOSE_ALL: close_all_sessions, OWN_REMOVE: registry.remove}[what]
            c = Lane("C")
            c(lambda registry=registry: registry().get_one(Page, 2))
            if what == OWN_REMOVE:
                c(ends)
            out: list[int] = []

            def meanwhile(b: Lane = b, registry: Any = registry, ends: Any = ends, engine: Engine = engine) -> None:
                b(lambda: registry().get_one(Page, 2))
                b(ends)
                # A's own is not counted, if it is still A's.
                out.append(engine.pool.checkedout() - (what != CLOSE_ALL))  # noqa: B023 - called within the iteration

            says[row] = []
            try:
                words[row] = a(work, truth, lambda job, registry=registry: job(registry()), meanwhile)
            except Exception as problem:
                words[row] = "error"
                says[row] = [same(spoken(problem))]
            words[LEFT] = "leaked" if out[0] else "right"
            for lane in (a, b, c):
                lane(registry.remove)
            c.end()
    # The name under which the advice goes round.
    return {**words, "says": says, "close_all() is there": hasattr(scoped_session, "close_all")}
