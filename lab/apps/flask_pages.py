"""The pages as a Flask application, written as each way to end its Sessions wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from flask import Flask, Response, abort, g, request, stream_with_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.apps.streamed import ViewError
from lab.hazards import (
    AFTER_REQUEST,
    DB_SESSION,
    FLASK_RECIPE,
    TEARDOWN_APPCONTEXT,
    TEARDOWN_REQUEST,
    WITH_IN_BODY,
    WITH_IN_VIEW,
)
from lab.pages import STORED, Page, change, touch, written
from recipes import flask_session


class Views:
    """What the views do with a Session that something else ends; *get_session* gives it."""

    def __init__(self, get_session: Callable[[], Session]) -> None:
        self.get_session = get_session

    def opened(self) -> AbstractContextManager[Session]:
        """The Session for a view that is done with it when it returns."""
        return nullcontext(self.get_session())

    def streamed(self) -> Iterator[str]:
        """The view has loaded the page when it returns; the comments are loaded when their turn comes."""
        return _lazily(self.get_session().get_one(Page, 1))

    def failing(self) -> Iterator[str]:
        yield STORED
        change(self.get_session())
        raise ViewError("in mid-stream")


class WithInView(Views):
    """``with Session()`` around all that the view does before it returns."""

    def opened(self) -> AbstractContextManager[Session]:
        return self.get_session()

    def streamed(self) -> Iterator[str]:
        with self.opened() as session:
            return _lazily(session.get_one(Page, 1))

    def failing(self) -> Iterator[str]:
        with self.opened() as session:
            return Views(lambda: session).failing()


class WithInBody(WithInView):
    """``with Session()`` in the view, or in the generator where there is one."""

    def streamed(self) -> Iterator[str]:
        with self.opened() as session:
            yield from _lazily(session.get_one(Page, 1))

    def failing(self) -> Iterator[str]:
        with self.opened() as session:
            yield from Views(lambda: session).failing()


def _lazily(page: Page) -> Iterator[str]:
    yield page.body
    for comment in page.comments:
        yield comment.body


def make_app(remedy: str, engine: Engine, propagate: bool = False) -> Flask:
    """The application.

    Args:
        remedy: what ends its Sessions; one of :data:`lab.hazards.FLASK_REMEDIES`.
        propagate: whether exceptions of views reach the server.
    """
    app = Flask("pages")
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    app.teardown_request(_note)
    _route(app, _views(app, remedy, engine))
    # Functions that are registered later run first.
    app.teardown_request(lambda exception: _spoil("teardown_request"))
    app.teardown_appcontext(lambda exception: _spoil("teardown_appcontext"))
    return app


def _views(app: Flask, remedy: str, engine: Engine) -> Views:
    make_session = sessionmaker(engine)
    if remedy in (WITH_IN_VIEW, WITH_IN_BODY):
        return (WithInView if remedy == WITH_IN_VIEW else WithInBody)(make_session)
    if remedy == FLASK_RECIPE:
        flask_session.install(app, make_session)
        return Views(flask_session.get_session)
    if remedy == DB_SESSION:
        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        db = SQLAlchemy(app, session_options={"bind": engine})
        with app.app_context():
            # The one engine that the lab looks at.
            db.engines[None] = engine
        return Views(lambda: db.session())
    registry = scoped_session(make_session)
    hook: Callable[[Callable[..., Any]], object] | None = {
        AFTER_REQUEST: app.after_request,
        TEARDOWN_REQUEST: app.teardown_request,
        TEARDOWN_APPCONTEXT: app.teardown_appcontext,
    }.get(remedy)

    def remove(response: Response | BaseException | None) -> Any:
        registry.remove()
        return response

    if hook:
        hook(remove)
    return Views(registry)


def _route(app: Flask, views: Views) -> None:
    @app.get("/whole")
    def whole() -> str:
        with views.opened() as session:
            return "".join(written(session.get_one(Page, 1)))

    @app.get("/touch")
    def next_request() -> str:
        with views.opened() as session:
            return touch(session)

    @app.get("/fails")
    def fails() -> str:
        with views.opened() as session:
            change(session)
            raise ViewError("before the body")

    @app.get("/aborts")
    def aborts() -> str:
        with views.opened() as session:
            change(session)
            abort(404)

    @app.get("/spoils-<hook>")
    def spoils(hook: str) -> str:
        g.spoil = hook
        with views.opened() as session:
            return change(session).body

    @app.get("/<name>")
    def streamed(name: str) -> Response:
        body: Iterable[str] = {"streamed": views.streamed, "fails-later": views.failing}[name.partition("+")[0]]()
        return Response(stream_with_context(body) if name.endswith("+context") else body)

    app.register_error_handler(404, lambda problem: ("sorry", 404))
    app.register_error_handler(500, lambda problem: ("sorry", 500))


def _note(exception: BaseException | None) -> None:
    request.environ["lab.events"].append("teardown")


def _spoil(hook: str) -> None:
    if g.get("spoil") == hook:
        raise ViewError(f"in a {hook} function")
