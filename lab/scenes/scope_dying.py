"""Threads that die without ``remove()``, one after the other: how many of them get a connection."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import QueuePool, create_engine
from sqlalchemy.exc import TimeoutError
from sqlalchemy.orm import Session, scoped_session

from lab.drivers import spoken
from lab.pages import STORED, Page, Truth
from lab.scenes.scope_lanes import make_way

THREADS, PATIENCE = 60, 0.02


def main(arguments: Mapping[str, Any], database: str, cases: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Let 60 threads read a page, each after the one before has ended, in each of *cases*.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
        cases: pairs of a way, by its name in :func:`lab.scenes.scope_lanes.make_way`, and of what the collector does:
            "off", "after each thread" or "default".

    Returns:
        By case ``served`` and ``timeouts``, and the 1-based number of the ``first`` that had to do without; ``alive``,
        how many Sessions are left, ``out``, how many connections are checked out, and ``held by``, the types of what
        refers to a Session that is left; ``message``.
    """
    truth = Truth(arguments, database)
    truth.rewind()
    return {"told": [_play(arguments, *case) for case in cases]}


def _play(arguments: Mapping[str, Any], way: str, collector: str) -> dict[str, Any]:
    # The pool's own size, 5 and 10 more; none of those who wait will be given one later.
    engine = create_engine(**arguments, poolclass=QueuePool, pool_timeout=PATIENCE)
    work = make_way(way, engine)
    made: list[weakref.ref[Session]] = []
    results: list[str] = []

    def job(session: Any) -> str:
        made.append(weakref.ref(session.registry() if isinstance(session, scoped_session) else session))
        return session.get_one(Page, 1).body

    def serve() -> None:
        try:
            results.append(work(job))
        except TimeoutError as problem:
            results.append(spoken(problem))

    gc.collect()
    if collector != "default":
        gc.disable()
    for _ in range(THREADS):
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
        del thread
        if collector == "after each thread":
            gc.collect()
    out = engine.pool.checkedout()
    left = [session for session in (ref() for ref in made) if session is not None]
    holders = {type(thing).__name__ for thing in gc.get_referrers(*left) if thing is not left} if left else set()
    served = results.count(STORED)
    messages = [result for result in results if result != STORED]
    found = {
        "served": served,
        "timeouts": len(messages),
        "first": 1 + results.index(messages[0]) if messages else 0,
        "out": out,
        "alive": len({id(session) for session in left}),
        "held by": sorted(holders),
        "message": messages[0] if messages else "",
    }
    for session in left:
        session.close()
    engine.dispose()
    gc.enable()
    return found
