"""The pages as an application of Starlette or FastAPI, with one of the ways to get a session and to close it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from lab.apps.asgi_async_pages import AsyncPages
from lab.apps.asgi_pages import PATHS, STREAMS, Notes, Pages
from lab.apps.asgi_ways import FASTAPI, STARLETTE, Dependency, Way


class FailsAfterwards:
    """Another middleware, within the session's, that fails in what it does to the response of ``/spoilt``."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def failing(message: Any) -> None:
            raise RuntimeError("another middleware fails")

        spoilt = scope.get("path") == "/spoilt"
        await self.app({**scope, "path": "/flush"} if spoilt else scope, receive, failing if spoilt else send)


def build(remedy: str, engine: Any, notes: Notes) -> Any:
    """The application with *remedy*, a key of ``STARLETTE`` or ``FASTAPI``, on *engine*."""
    loop = isinstance(engine, AsyncEngine)
    make = (async_sessionmaker if loop else sessionmaker)(engine)
    way = {**STARLETTE, **FASTAPI}[remedy](make, loop)
    pages = (AsyncPages if loop else Pages)(way, notes)
    return (_fastapi if remedy in FASTAPI else _starlette)(way, pages)


def _starlette(way: Way, pages: Pages) -> Any:
    def endpoint(name: str) -> Callable:
        page, streams = getattr(pages, name), name in STREAMS

        def sync_endpoint(request):
            # A cancelled request leaves its thread behind, which is to be waited for.
            with pages.notes, way.in_view(streams) as session:
                return page(session)

        async def async_endpoint(request):
            async with way.in_view(streams) as session:
                return await page(session)

        return async_endpoint if way.loop else sync_endpoint

    routes = [Route(f"/{name}", endpoint(name), methods=["GET", "POST"]) for name in PATHS]
    return way.wrap(Starlette(routes=routes, middleware=[*way.middleware(), Middleware(FailsAfterwards)]))


def _fastapi(way: Dependency, pages: Pages) -> Any:
    app = FastAPI()
    app.add_middleware(FailsAfterwards)
    for name in PATHS:
        endpoint = _with_session(way, getattr(pages, name), pages.notes, Depends(_does_nothing))
        app.add_api_route(f"/{name}", endpoint, methods=["GET", "HEAD", "POST"])
    app.add_api_route("/torn", _with_session(way, pages.flush, pages.notes, Depends(_fails_in_teardown)))
    return way.wrap(app)


def _with_session(way: Dependency, page: Callable, notes: Notes, another: Any) -> Callable:
    def sync_endpoint(session=way.dependency(), other=another):  # noqa: B008 - how FastAPI is told
        with notes:
            return page(session)

    async def async_endpoint(session=way.dependency(), other=another):  # noqa: B008
        return await page(session)

    return async_endpoint if way.loop else sync_endpoint


async def _does_nothing() -> None:
    pass


def _fails_in_teardown():
    yield
    raise RuntimeError("another dependency fails")
