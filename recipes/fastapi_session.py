# SPDX-License-Identifier: 0BSD
# Recipe: fastapi_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#fastapi-session)
"""One Session for each request of FastAPI, as a dependency, closed when the response is complete.

Problem: without ``try`` and ``finally`` the code after the ``yield`` of a dependency does not run after an exception,
and the Session keeps its transaction and its connection. With them it runs before a streamed body or after it: FastAPI
0.106 and 0.118 have changed that.

Use it when: FastAPI serves requests with a Session, or an AsyncSession.
Not when: it speaks WebSocket: open a Session for each message there. Nor for tasks of one request that run at the same
time, or outlive it: a Session is no more for two tasks than for two threads, so each opens its own.

The Session is closed by a middleware, around everything that the request does, streamed body and background tasks
included; so the dependency has no ``yield``. It never commits: the endpoint does. What is no dependency may call
:func:`get_session` as well.

>>> import asyncio, os, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> from typing import Annotated
>>> from fastapi import Depends, FastAPI
>>> from fastapi.responses import StreamingResponse
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import Session, sessionmaker
>>> engine = create_engine("sqlite:///" + os.path.join(folder.name, "pages.db"))
>>> app = install(FastAPI(), sessionmaker(engine))
>>> @app.get("/")
... def pages(session: Annotated[Session, Depends(get_session)]):
...     parts = (session.scalar(text("select 'part ' || :number"), {"number": number}) for number in (1, 2))
...     return StreamingResponse(parts)
>>> async def client(message):
...     if message.get("body"):
...         print(message["body"], engine.pool.checkedout())
>>> async def waits():
...     await asyncio.sleep(60)
>>> scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
>>> asyncio.run(app(scope, waits, client))
b'part 1' 1
b'part 2' 1
>>> engine.pool.checkedout()
0
>>> get_session()
Traceback (most recent call last):
RuntimeError: no session: this is not within a request, or install() was not called, or the request is over
>>> engine.dispose()
>>> folder.cleanup()

Tested with SQLAlchemy 2.0 and 2.1, FastAPI 0.165 under uvicorn 0.54. What the documentation says of dependencies with
``yield``: https://fastapi.tiangolo.com/advanced/advanced-dependencies/
"""

import asyncio
import contextvars
import inspect
from concurrent.futures import ThreadPoolExecutor

from fastapi import FastAPI
from sqlalchemy.orm import Session

# Threads that do nothing but close: a pool whose threads wait for a connection could not be waited for.
_closers = ThreadPoolExecutor(thread_name_prefix="fastapi_session")
_request = contextvars.ContextVar("fastapi_session")


class _Request:
    """What a request's tasks and threads share, each of which has a copy of its context."""

    def __init__(self, make_session):
        self.make_session, self.session = make_session, None


class _SessionPerRequest:
    """The middleware. Not one of ``@app.middleware("http")``, which is left before a body is streamed."""

    def __init__(self, app, make_session):
        self.app, self.make_session = app, make_session

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = _Request(self.make_session)
        token = _request.set(request)
        try:
            await self.app(scope, receive, send)
        finally:
            _request.reset(token)
            request.make_session = None
            if request.session is not None:
                await _close(request.session)


def install(app: FastAPI, make_session) -> FastAPI:
    """Give each request of *app* a Session of *make_session*: a sessionmaker, or an async_sessionmaker."""
    app.add_middleware(_SessionPerRequest, make_session=make_session)
    return app


def get_session() -> Session:
    """The Session (or AsyncSession) of this request, made at its first call; the dependency.

    Raises:
        RuntimeError: this is not within a request.
    """
    request = _request.get(None)
    if request is None or request.make_session is None:
        raise RuntimeError(
            "no session: this is not within a request, or install() was not called, or the request is over"
        )
    if request.session is None:
        request.session = request.make_session()
    return request.session


async def _close(session) -> None:
    """Close it to the end, even if the request is cancelled, or cancelled again, meanwhile."""
    if inspect.iscoroutinefunction(session.close):
        closing = asyncio.ensure_future(session.close())
    else:
        # In a thread: closing sends a ROLLBACK, and the event loop is not to wait for the answer.
        closing = asyncio.get_running_loop().run_in_executor(_closers, session.close)
    cancelled = None
    while not closing.done():
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError as problem:
            cancelled = problem
    closing.result()
    if cancelled:
        raise cancelled
