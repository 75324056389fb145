"""Scopes that go by a key: by the id of a thread, which comes back, and by a context, which is copied."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.pages import CHANGED, STORED, Page, Truth, same
from lab.process import wait_until
from lab.scenes.scope_lanes import Lane
from recipes.scoped_registry import SessionRegistry

BY_ID, BY_ID_REMOVED = "scopefunc=get_ident, no remove()", "scopefunc=get_ident, remove()"
BY_THREAD, RECIPE = "scoped_session, no remove()", "recipe scoped_registry"
IDS = (BY_ID, BY_THREAD, BY_ID_REMOVED, RECIPE)

BY_VALUE, BY_VALUE_SET = "scopefunc=variable.get, default=None", "scopefunc=variable.get, set in each thread"
CONTEXTS: dict[str, tuple[str, ...]] = {
    "new threads": (BY_VALUE, BY_VALUE_SET, BY_THREAD, RECIPE),
    "copies of one context": (BY_VALUE, BY_VALUE_SET, BY_THREAD, RECIPE),
}
# The pages that others use.
_OTHERS, THREADS = 2, 12


def main(arguments: Mapping[str, Any], database: str) -> dict[str, Any]:
    """Return what was seen, "ids" by scope, and "contexts" by where the threads come from and by scope.

    Args:
        arguments: those of ``create_engine``, for a server that locks no more than rows.
        database: the kind of server.
    """
    gc.disable()
    truth = Truth(arguments, database)
    return {
        "ids": {scope: _one_after_the_other(truth, scope) for scope in IDS},
        "contexts": {
            where: {scope: _two_at_a_time(truth, where, scope) for scope in scopes}
            for where, scopes in CONTEXTS.items()
        },
    }


def _one_after_the_other(truth: Truth, scope: str) -> dict[str, Any]:
    """Threads that each change a page of their own, flush and fail, until one is handed an old Session; that commits.

    Return ``handed``, whether there was one, ``at_thread``, which it was, ``same_id``, whether an id came back, and
    ``dirty``, how many changes the database holds.
    """
    truth.rewind()
    engine = truth.engine(pool_size=THREADS)
    with Session(engine) as session:
        session.add_all(Page(id=_OTHERS + n, body=STORED) for n in range(1, THREADS + 1))
        session.commit()
    make = sessionmaker(engine)
    recipe = SessionRegistry(make)
    registry = scoped_session(make, scopefunc=threading.get_ident if scope in (BY_ID, BY_ID_REMOVED) else None)
    sessions: list[Session] = []
    ids: list[int] = []
    handed: list[int] = []

    def work(number: int) -> None:
        ids.append(threading.get_ident())
        session = recipe.registry() if scope == RECIPE else registry()
        if any(session is old for old in sessions):
            handed.append(number)
            session.commit()
            return
        sessions.append(session)
        session.get_one(Page, _OTHERS + number).body = CHANGED
        session.flush()

    def serve(number: int) -> None:
        with recipe.scope() if scope == RECIPE else contextlib.nullcontext():
            work(number)
        if scope == BY_ID_REMOVED:
            registry.remove()

    for number in range(1, THREADS + 1):
        thread = threading.Thread(target=serve, args=[number])
        thread.start()
        system_id = thread.native_id
        thread.join()
        # For Python it is over a little earlier than for the system, which gives its id away.
        wait_until(lambda: not Path(f"/proc/self/task/{system_id}").exists(), "the end of a thread")  # noqa: B023
        if handed:
            break
    with Session(engine) as session:
        dirty = session.scalar(select(func.count()).where(Page.body == CHANGED))
    for session in sessions:
        session.close()
    engine.dispose()
    return {"handed": bool(handed), "at_thread": sum(handed), "same_id": len(set(ids)) < len(ids), "dirty": dirty}


def _two_at_a_time(truth: Truth, where: str, scope: str) -> dict[str, Any]:
    """A changes a page, B reads another one and rolls back, A commits.

    Return ``sessions``, how many there were; "A's change", "right" or "lost"; and ``says``, what was raised.
    """
    truth.rewind()
    engine, a, b = truth.engine(), Lane("A"), Lane("B")
    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("request", default=None)
    if where == "copies of one context":
        variable.set("request 1")
    make = sessionmaker(engine)
    recipe, registry = SessionRegistry(make), scoped_session(make, None if scope == BY_THREAD else variable.get)
    kept: list[Session] = []
    says: list[str] = []

    def session() -> Session:
        found = recipe.registry() if scope == RECIPE else registry()
        kept.append(found)
        return found

    def setting(job: Callable[[], None]) -> None:
        if scope == BY_VALUE_SET:
            variable.set(object())
        with recipe.scope() if scope == RECIPE and where == "new threads" else contextlib.nullcontext():
            job()

    def change() -> None:
        session().get_one(Page, 1).body = CHANGED
        session().flush()
        run(b, read)
        session().commit()

    def read() -> None:
        session().get_one(Page, 2)
        session().rollback()

    def run(lane: Lane, job: Callable[[], None]) -> None:
        if where == "new threads":
            lane(setting, job)
            return
        try:
            lane(context.copy().run, setting, job)
        except InvalidRequestError as problem:
            says.append(same(spoken(problem)))

    with recipe.scope():
        context = contextvars.copy_context()
        if scope == RECIPE and where == "copies of one context":
            # The work is A's; the thread that opened the scope takes that part.
            change()
        else:
            run(a, change)
    found = {"sessions": len({id(one) for one in kept}), "A's change": "right" if truth.stored() == CHANGED else "lost"}
    for one in kept:
        one.close()
    for lane in (a, b):
        lane.end()
    engine.dispose()
    return {**found, "refused": len(says), "says": says}
