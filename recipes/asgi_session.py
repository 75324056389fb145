# SPDX-License-Identifier: 0BSD
# Recipe: asgi_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#asgi-session)
"""One Session for each ASGI request, closed when the response is complete: not before its body, and not never.

Problem: a Session that nobody closes keeps its transaction and its connection, and the next request may commit what a
failed one left in it. One that is closed as soon as the endpoint returns, or after ``call_next`` of Starlette's
BaseHTTPMiddleware, is gone before a streamed body has been sent.

Use it when: an ASGI application serves requests with a Session, or an AsyncSession, under asyncio.
Not when: it speaks WebSocket: open a Session for each message there. Nor for tasks of one request that run at the same
time, or outlive it: a Session is no more for two tasks than for two threads, so each opens its own.

Serve what :func:`install` returns. :func:`get_session` works wherever the request's context does: in endpoints, also in
those that a framework runs in its thread pool, in the generator of a streamed body, in a background task of Starlette.
It never commits: the endpoint does.

>>> import asyncio, os, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine("sqlite:///" + os.path.join(folder.name, "pages.db"))
>>> async def pages(scope, receive, send):
...     session = get_session()
...     await send({"type": "http.response.start", "status": 200, "headers": []})
...     for number in 1, 2:
...         body = session.scalar(text("select 'part ' || :number"), {"number": number})
...         await send({"type": "http.response.body", "body": body.encode(), "more_body": number < 2})
>>> async def client(message):
...     print(message.get("body", message["type"]), engine.pool.checkedout())
>>> application = install(pages, sessionmaker(engine))
>>> asyncio.run(application({"type": "http"}, None, client))
http.response.start 0
b'part 1' 1
b'part 2' 1
>>> engine.pool.checkedout()
0
>>> get_session()
Traceback (most recent call last):
RuntimeError: no session: this is not within a request, or install() was not called, or the request is over
>>> engine.dispose()
>>> folder.cleanup()

Tested with SQLAlchemy 2.0 and 2.1 under uvicorn 0.54, with Starlette 1.10. It waits for the application as the
specification describes it, exceptions and cancellation included: https://asgi.readthedocs.io/en/stable/specs/main.html
"""

import asyncio
import contextvars
import inspect
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.orm import Session

# Threads that do nothing but close: a pool whose threads wait for a connection could not be waited for.
_closers = ThreadPoolExecutor(thread_name_prefix="asgi_session")
_request = contextvars.ContextVar("asgi_session")


class _Request:
    """What a request's tasks and threads share, each of which has a copy of its context."""

    def __init__(self, make_session):
        self.make_session, self.session = make_session, None


def install(app, make_session):
    """Wrap the ASGI application *app*. *make_session* is a sessionmaker, or an async_sessionmaker."""

    async def application(scope, receive, send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = _Request(make_session)
        token = _request.set(request)
        try:
            await app(scope, receive, send)
        finally:
            _request.reset(token)
            request.make_session = None
            if request.session is not None:
                await _close(request.session)

    return application


def get_session() -> Session:
    """The Session (or AsyncSession) of this request, made at its first call.

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
