"""The ways in which the pages of an ASGI application get their session, and in which it is closed, or not."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from fastapi import Depends
from sqlalchemy.ext.asyncio import async_scoped_session
from sqlalchemy.orm import scoped_session
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware

from recipes import asgi_session, fastapi_session

_this_request: ContextVar[object] = ContextVar("this request")


class Nothing(contextlib.nullcontext):
    """A context for ``with`` and ``async with`` that does nothing."""


class OnlyIfWell:
    """Close the session after the block, unless an exception leaves it: as code without ``finally`` does."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def __enter__(self) -> Any:
        return self.session

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.session.close()

    async def __aenter__(self) -> Any:
        return self.session

    async def __aexit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            await self.session.close()


class Way:
    """The hazard that needs no more than a line: one global ``scoped_session``, or one global AsyncSession."""

    def __init__(self, make: Callable[[], Any], loop: bool) -> None:
        self.make, self.loop = make, loop
        self.current = functools.cache(make) if loop else scoped_session(make)

    def in_view(self, streams: bool) -> Any:
        """The context in which an endpoint runs; *streams* tells whether it returns before its body is made."""
        return Nothing(self.current())

    def in_body(self, needed: bool) -> Any:
        """The context in which a streamed body is made; *needed*: its endpoint had no session."""
        return Nothing()

    def again(self, session: Any) -> Any:
        """What a background task uses, given its endpoint's *session*."""
        return session

    def wrap(self, app: Any) -> Any:
        return app

    def middleware(self) -> list[Middleware]:
        return []


class CloseInEndpoint(Way):
    def in_view(self, streams: bool) -> Any:
        return OnlyIfWell(self.make())


class WithInEndpoint(Way):
    def in_view(self, streams: bool) -> Any:
        return self.make()


class WithInGenerator(Way):
    def in_view(self, streams: bool) -> Any:
        return Nothing() if streams else self.make()

    def in_body(self, needed: bool) -> Any:
        return self.make() if needed else Nothing()


class AfterCallNext(Way):
    """A registry that goes by request, and ``remove()`` in a BaseHTTPMiddleware, once ``call_next`` has returned."""

    in_any_case = False

    def __init__(self, make: Callable[[], Any], loop: bool) -> None:
        super().__init__(make, loop)
        scope = async_scoped_session if loop else scoped_session
        self.current = scope(make, scopefunc=_this_request.get)

    def in_view(self, streams: bool) -> Any:
        return Nothing(self.current())

    def again(self, session: Any) -> Any:
        return self.current()

    def middleware(self) -> list[Middleware]:
        return [Middleware(BaseHTTPMiddleware, dispatch=self.dispatch)]

    async def dispatch(self, request: Any, call_next: Callable) -> Any:
        _this_request.set(object())
        try:
            response = await call_next(request)
        except BaseException:
            if self.in_any_case:
                await self.remove()
            raise
        await self.remove()
        return response

    async def remove(self) -> None:
        if self.loop:
            await self.current.remove()
        else:
            self.current.remove()


class AroundCallNext(AfterCallNext):
    in_any_case = True


class AsgiRecipe(Way):
    def in_view(self, streams: bool) -> Any:
        return Nothing(asgi_session.get_session())

    def again(self, session: Any) -> Any:
        return asgi_session.get_session()

    def wrap(self, app: Any) -> Any:
        return asgi_session.install(app, self.make)


class Dependency(Way):
    """A dependency of FastAPI. ``closing`` is the context between whose ends it yields."""

    scope: str | None = None

    def dependency(self) -> Any:
        def sync_session():
            with self.closing() as session:
                yield session

        async def async_session():
            async with self.closing() as session:
                yield session

        return Depends(async_session if self.loop else sync_session, scope=self.scope)

    def closing(self) -> Any:
        return self.make()


class YieldOnly(Dependency):
    def closing(self) -> Any:
        return OnlyIfWell(self.make())


class YieldFinally(Dependency):
    def closing(self) -> Any:
        # Not of an AsyncSession's own "async with", which closes in a task of its own.
        session = self.make()
        return contextlib.aclosing(session) if self.loop else contextlib.closing(session)


class YieldFunctionScope(Dependency):
    scope = "function"


class FastApiRecipe(Dependency):
    def dependency(self) -> Any:
        return Depends(fastapi_session.get_session)

    def wrap(self, app: Any) -> Any:
        return fastapi_session.install(app, self.make)


STARLETTE = {
    "none": Way,
    "close() in the endpoint": CloseInEndpoint,
    "with in the endpoint": WithInEndpoint,
    "with in the generator": WithInGenerator,
    "remove() after call_next": AfterCallNext,
    "call_next in try, finally remove()": AroundCallNext,
    "recipe asgi_session": AsgiRecipe,
}
FASTAPI = {
    "yield, then close()": YieldOnly,
    "yield, finally close()": YieldFinally,
    "yield in with": Dependency,
    'yield in with, scope="function"': YieldFunctionScope,
    "recipe fastapi_session": FastApiRecipe,
}
