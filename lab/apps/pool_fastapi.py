"""A FastAPI application whose requests hold a connection, in every way that is common; the pool is small."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel
from sqlalchemy import Engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session, sessionmaker

from recipes import fastapi_session

ONE = text("select 1")
USER_FIRST = "user in a dependency"
MODEL = "response_model"
ONE_STEP = "all in the endpoint"
SHAPES = (USER_FIRST, MODEL, ONE_STEP)


class Answer(BaseModel):
    value: int


class Gate:
    """Requests that have a connection wait here until all have come, and go on at once."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def query(self, session: Session) -> int:
        value = session.scalar(ONE)
        if not self.open.wait(60):
            raise RuntimeError("the gate was not opened")
        return value


def build(engine: Engine, shape: str, remedy: str, gate: Gate, connections: int) -> Any:
    """The application: *shape* says where a request first asks the database, *remedy* who holds the Session.

    Args:
        connections: as many as the pool has.
    """
    app = FastAPI()
    make = sessionmaker(engine)
    if remedy == "recipe fastapi_session":
        _endpoints(fastapi_session.install(app, make), shape, Depends(fastapi_session.get_session), gate)
    elif remedy == "a Session in each function":
        _own_sessions(app, make, gate)
    else:
        limit = {"max_concurrency": connections} if remedy == "max_concurrency" else {}
        _endpoints(app, shape, Depends(_yielding(make), **limit), gate, ends=remedy == "commit() in the dependency")
    return _Admission(app, connections) if remedy == "a semaphore around the application" else app


def build_async(engine: AsyncEngine) -> FastAPI:
    """The same requests with an AsyncSession: nothing of them runs in a thread."""
    app = FastAPI()

    async def get_session():
        async with AsyncSession(engine) as session:
            yield session

    given = Depends(get_session)

    async def user(session: AsyncSession = given) -> int:
        return await session.scalar(ONE)

    asked = Depends(user)

    @app.get("/", response_model=Answer)
    async def page(user: int = asked):
        return {"value": user}

    return app


def _yielding(make: Callable[[], Session]) -> Callable[[], Iterator[Session]]:
    def get_session() -> Iterator[Session]:
        with make() as session:
            yield session

    return get_session


def _endpoints(app: FastAPI, shape: str, session: Any, gate: Gate, ends: bool = False) -> None:
    def user(session: Session = session) -> int:
        value = gate.query(session)
        if ends:
            session.commit()
        return value

    if shape == USER_FIRST:

        @app.get("/", response_model=None)
        def page(user: int = Depends(user)):
            return {"value": user}

    else:

        @app.get("/", response_model=Answer if shape == MODEL else None)
        def page(session: Session = session):
            return {"value": gate.query(session)}


def _own_sessions(app: FastAPI, make: Callable[[], Session], gate: Gate) -> None:
    def user() -> int:
        with make() as session:
            return gate.query(session)

    @app.get("/", response_model=Answer)
    def page(user: int = Depends(user)):
        with make() as session:
            return {"value": gate.query(session)}


class _Admission:
    """So many requests at once as there are connections; the others wait in the event loop, and hold no thread."""

    def __init__(self, app: Any, connections: int) -> None:
        self.app, self.turn = app, asyncio.Semaphore(connections)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self.turn:
            await self.app(scope, receive, send)
