"""FastAPI with a Session by thread: a dependency and an endpoint that are functions, each run in a thread of the pool.

While the request is between the two, another one takes the thread of the first. So the second runs in another thread.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import Depends, FastAPI
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.pages import CHANGED, TOUCHED, Page, Truth, same
from lab.scenes.asgi_client import Client, Hazard
from recipes import fastapi_session
from recipes.scoped_registry import SessionRegistry

BY_THREAD, REGISTRY = "scoped_session, remove() in the dependency", "recipe scoped_registry in the dependency"
PASSED, RECIPE = "the dependency yields the Session", "recipe fastapi_session"
REMEDIES = (BY_THREAD, REGISTRY, PASSED, RECIPE)


def main(arguments: Mapping[str, Any], database: str, remedies: Sequence[str]) -> dict[str, Any]:
    """Return what was seen, by remedy and by whether the thread was taken ("busy") or not ("alone").

    Args:
        arguments: those of ``create_engine``, for a server that locks no more than rows.
        database: the kind of server.
        remedies: names from ``REMEDIES``.
    """
    gc.disable()
    truth = Truth(arguments, database)
    told = {remedy: {when: _play(truth, remedy, when) for when in ("busy", "alone")} for remedy in remedies}
    return {"told": told, "version": version("fastapi")}


def _play(truth: Truth, remedy: str, when: str) -> dict[str, Any]:
    truth.rewind()
    engine = truth.engine()
    app = _App(truth, engine, remedy)
    found = asyncio.run(app.play(busy=when == "busy"))
    # What was leaked holds locks.
    for session in app.sessions:
        session.close()
    engine.dispose()
    return found


class _App:
    """The dependency changes the page; the endpoint reads it, changes another one, and commits."""

    def __init__(self, truth: Truth, engine: Engine, remedy: str) -> None:
        self.truth, self.engine = truth, engine
        self.sessions: list[Session] = []
        make_session = sessionmaker(engine)

        def make() -> Session:
            self.sessions.append(make_session())
            return self.sessions[-1]

        self.make = make
        self.registry: Any = SessionRegistry(self.make) if remedy == REGISTRY else scoped_session(self.make)
        self.threads: dict[str, int] = {}
        self.seen: list[str] = []
        self.raised: list[str] = []
        # To be made within the loop.
        self.between, self.goes_on = asyncio.Event(), asyncio.Event()
        self.taken, self.given_back = threading.Event(), threading.Event()
        self.app = FastAPI()
        by = {BY_THREAD: self.removing, REGISTRY: self.in_scope, PASSED: self.passing, RECIPE: self.given}[remedy]
        if remedy == RECIPE:
            fastapi_session.install(self.app, self.make)
        self._route(by)

    def removing(self) -> Iterator[Any]:
        self.change(self.registry())
        try:
            yield self.registry
        finally:
            self.threads["exit"] = threading.get_ident()
            self.registry.remove()

    def in_scope(self) -> Iterator[Any]:
        with self.registry.scope():
            self.change(self.registry)
            yield self.registry

    def passing(self) -> Iterator[Session]:
        with self.make() as session:
            self.change(session)
            yield session

    def given(self) -> Session:
        session = fastapi_session.get_session()
        self.change(session)
        return session

    def change(self, session: Any) -> None:
        self.threads["dependency"] = threading.get_ident()
        session.get_one(Page, 1).body = CHANGED
        session.flush()

    def _route(self, dependency: Any) -> None:
        async def between(session: Any = Depends(dependency)) -> Any:  # noqa: B008 - FastAPI's way
            self.between.set()
            await self.goes_on.wait()
            return session

        @self.app.get("/page")
        def page(session: Any = Depends(between)) -> str:  # noqa: B008 - FastAPI's way
            self.threads["endpoint"] = threading.get_ident()
            self.seen.append(session.get_one(Page, 1).body)
            session.get_one(Page, 2).body = TOUCHED
            session.commit()
            return "done"

        @self.app.get("/slow")
        def slow() -> str:
            self.threads["other"] = threading.get_ident()
            self.taken.set()
            self.given_back.wait(30)
            return "done"

    async def play(self, busy: bool) -> dict[str, Any]:
        request = asyncio.ensure_future(self.serve("page"))
        await asyncio.wait_for(self.between.wait(), 30)
        other = None
        if busy:
            other = asyncio.ensure_future(self.serve("slow"))
            while not self.taken.is_set():
                await asyncio.sleep(0.001)
        self.goes_on.set()
        await request
        out = self.engine.pool.checkedout()
        self.given_back.set()
        if other:
            await other
        threads = self.threads
        return {
            "another thread": threads.get("endpoint") not in (None, threads["dependency"]),
            "the thread was taken": threads.get("other") == threads["dependency"],
            "what the endpoint sees": "right" if self.seen == [CHANGED] else "old" if self.seen else "error",
            "the dependency's change": "right" if self.truth.stored() == CHANGED else "lost",
            "its connection": "leaked" if out else "right",
            "says": {"what the endpoint sees": self.raised},
        }

    async def serve(self, name: str) -> None:
        client = Client(Hazard(name))
        try:
            await asyncio.ensure_future(self.app(client.scope, client.receive, client.send))
        except Exception as problem:
            self.raised.append(same(spoken(problem)))
