"""A ``scoped_session`` that goes by thread, removed by a middleware in the event loop's thread.

Five requests meet at a barrier in their endpoints, so that five threads of the pool have served one each. Then one
fails after a flush and another commits, and it is noted whether both were served by the same thread.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lab.apps.asgi_pages import DIRTY, fill, hit, load, spoil
from lab.scenes.asgi_client import Client, Hazard
from recipes import asgi_session

SIMULTANEOUS = 5


def main(engine: Mapping[str, Any], remedy: str, endpoints: str) -> dict[str, Any]:
    """Serve the requests; return what was seen.

    Args:
        engine: arguments of ``create_engine``.
        remedy: "remove() in the event loop" or "recipe asgi_session".
        endpoints: "def", which are run in the thread pool, or "async def".
    """
    own = create_engine(**engine, isolation_level="AUTOCOMMIT")
    fill(own)
    app = _App(create_engine(**engine), remedy, endpoints)
    gc.collect()
    gc.disable()
    found = asyncio.run(app.play())
    with own.connect() as connection:
        found["dirty"] = connection.scalar(text("select body from page")) == DIRTY
    return {**found, "version": version("starlette")}


class _App:
    def __init__(self, engine: Any, remedy: str, endpoints: str) -> None:
        self.engine, make = engine, sessionmaker(engine)
        self.registry = scoped_session(make)
        self.barrier = threading.Barrier(SIMULTANEOUS)
        self.meets = endpoints == "def"
        self.threads: dict[str, list[int]] = {"page": [], "fail": [], "next": []}
        self.removed: list[bool] = []
        views = {"page": self.page, "fail": self.fail, "next": self.next}
        routes = [Route(f"/{name}", self.endpoint(name, view, endpoints)) for name, view in views.items()]
        app = Starlette(routes=routes)
        by_recipe = remedy == "recipe asgi_session"
        self.app = asgi_session.install(app, make) if by_recipe else self.removing(app)
        self.session = asgi_session.get_session if by_recipe else self.registry

    def removing(self, app: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            finally:
                self.removed.append(self.registry.registry.has())
                self.registry.remove()

        return application

    def endpoint(self, name: str, view: Any, endpoints: str) -> Any:
        def sync_endpoint(request):
            self.threads[name].append(threading.get_ident())
            return PlainTextResponse(view())

        async def async_endpoint(request):
            return sync_endpoint(request)

        return sync_endpoint if endpoints == "def" else async_endpoint

    def page(self) -> str:
        body = load(self.session()).body
        if self.meets:
            self.barrier.wait(30)
        return body

    def fail(self) -> str:
        spoil(self.session())
        raise RuntimeError("the view fails")

    def next(self) -> str:
        hit(self.session())
        return "done"

    async def play(self) -> dict[str, Any]:
        await asyncio.gather(*(self.serve("page") for _ in range(SIMULTANEOUS)))
        out, removed = self.engine.pool.checkedout(), self.removed.count(True)
        for name in "fail", "next":
            await self.serve(name)
        threads = self.threads
        return {
            "out": out,
            "removed": removed,
            "threads": len(set(threads["page"])),
            "in_loop": threading.get_ident() in threads["page"],
            "same_thread": threads["fail"] == threads["next"],
        }

    async def serve(self, name: str) -> None:
        client = Client(Hazard(name))
        # In a task of its own, as a server does; its exception is the server's to log.
        await asyncio.wait([asyncio.ensure_future(self.app(client.scope, client.receive, client.send))])
