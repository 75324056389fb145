"""Middlewares that end the thread's Session after a request: the source's two, two that are tried instead, a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy.orm import Session, scoped_session

from lab.wsgi import Application
from recipes import wsgi_session

Registry = scoped_session[Session]


class Middleware:
    """One that does nothing. Subclasses say when the Session is removed."""

    def __init__(self, app: Application, registry: Registry) -> None:
        self.app, self.registry = app, registry

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return self.app(environ, start_response)

    def iterate(self, result: Iterable[bytes]) -> Iterator[bytes]:
        """Pass *result* on to its end, then close it, then remove the Session."""
        try:
            yield from result
        finally:
            if hasattr(result, "close"):
                result.close()
            self.registry.remove()


class SourcesMiddleware(Middleware):
    """As in "Tabula Rasa" (homework.nwsnet.de, about 2007), with the words restored that its page has lost."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        result = self.app(environ, start_response)
        self.registry.remove()
        return result


class TryFinally(Middleware):
    """The source's update: the same in ``finally``, within the application's ``__call__``."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            result = self.app(environ, start_response)
            return result
        finally:
            self.registry.remove()


class GeneratorMiddleware(Middleware):
    """All of it is a generator, so the application is called when the server asks for the first chunk."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            result = self.app(environ, start_response)
            yield from self.iterate(result)
        finally:
            self.registry.remove()


class GeneratorBody(Middleware):
    """The application is called at once; only its result is wrapped in a generator."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            result = self.app(environ, start_response)
        except BaseException:
            self.registry.remove()
            raise
        return self.iterate(result)


class Unclosed:
    """A middleware as many are: it passes the body on and forgets ``close()``."""

    def __init__(self, app: Application) -> None:
        self.app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        return map(bytes, self.app(environ, start_response))


NONE, SOURCE, FINALLY = "none", "source's middleware", "source's try/finally"
GENERATOR, GENERATOR_BODY = "generator middleware", "generator around the body"
RECIPE, RECIPE_UNCLOSED = "recipe wsgi_session", "recipe wsgi_session, close() not passed on"
_MIDDLEWARES = {
    NONE: Middleware,
    SOURCE: SourcesMiddleware,
    FINALLY: TryFinally,
    GENERATOR: GeneratorMiddleware,
    GENERATOR_BODY: GeneratorBody,
}
REMEDIES = (*_MIDDLEWARES, RECIPE)


def scoped(
    make_app: Callable[[Callable[[], Session]], Application], make_session: Callable[[], Session], remedy: str
) -> Application:
    """The application under *remedy*.

    Args:
        make_app: makes the application of a function that gives the request's Session.
        remedy: one of ``REMEDIES``, or ``RECIPE_UNCLOSED``.
    """
    if remedy in _MIDDLEWARES:
        registry = scoped_session(make_session)
        return _MIDDLEWARES[remedy](make_app(registry), registry)
    app = wsgi_session.install(make_app(wsgi_session.get_session), make_session)
    return Unclosed(app) if remedy == RECIPE_UNCLOSED else app
