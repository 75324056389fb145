"""Threads that take one step at a time, and the ways in which a job in one of them comes by its Session."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from recipes.scoped_registry import SessionRegistry
from recipes.thread_session import OneThread, in_session

GLOBAL, STORED = "one Session for all", "Session() stored"
NO_REMOVE, REMOVE = "scoped_session, no remove()", "scoped_session, remove()"
COMMIT_ONLY = "scoped_session, commit() and no remove()"
PER_JOB = "with a Session per job"
JOB_RECIPE, REGISTRY_RECIPE = "recipe thread_session", "recipe scoped_registry"
GUARDED = "Session() stored, class_=OneThread"

Job = Callable[[Any], Any]
Way = Callable[[Job], Any]


class Lane:
    """A thread of a pool that never ends, unless it is told to; a step is over when the call returns."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def __call__(self, step: Callable[..., Any], *arguments: Any) -> Any:
        return self._pool.submit(step, *arguments).result(30)

    def end(self) -> None:
        self._pool.shutdown()


def make_way(name: str, engine: Engine) -> Way:
    """A function that calls a job with its Session; what becomes of that afterwards is what tells the ways apart.

    What is stored once and for all is made here, in the calling thread.
    """
    make = sessionmaker(engine)
    if name in (GLOBAL, STORED, GUARDED):
        registry = scoped_session(sessionmaker(engine, class_=OneThread) if name == GUARDED else make)
        session = make() if name == GLOBAL else registry()
        return lambda job: job(session)
    if name == JOB_RECIPE:
        return lambda job: in_session(make)(job)()
    if name == PER_JOB:
        return functools.partial(_per_job, make)
    if name == REGISTRY_RECIPE:
        recipe = SessionRegistry(make)
        # Stored as well, and no Session of anyone's.
        return functools.partial(_in_scope, recipe, recipe())
    return functools.partial({NO_REMOVE: _no_remove, REMOVE: _remove, COMMIT_ONLY: _commit}[name], scoped_session(make))


def _per_job(make: Callable[[], Session], job: Job) -> Any:
    with make() as session:
        return job(session)


def _in_scope(recipe: SessionRegistry, taken: Any, job: Job) -> Any:
    with recipe.scope():
        return job(taken)


def _no_remove(registry: scoped_session[Session], job: Job) -> Any:
    return job(registry())


def _remove(registry: scoped_session[Session], job: Job) -> Any:
    try:
        return job(registry())
    finally:
        registry.remove()


def _commit(registry: scoped_session[Session], job: Job) -> Any:
    result = job(registry())
    registry.commit()
    return result
