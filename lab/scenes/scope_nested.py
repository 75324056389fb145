"""Flask: within a request a helper, or a task that is run eagerly, pushes an application context of its own."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

from flask import Flask
from sqlalchemy.orm import scoped_session, sessionmaker

from lab.apps.flask_pages import flask_session
from lab.drivers import spoken
from lab.pages import CHANGED, STORED, Page, Truth, same, written
from lab.wsgi import exchange

DB_SESSION, BY_THREAD = "Flask-SQLAlchemy", "scoped_session, remove() in teardown_appcontext"
RECIPE = "recipe flask_session"
WAYS = (DB_SESSION, BY_THREAD, RECIPE)
NESTED, KEY, FLAT = "nested, with the object", "nested, with its primary key", "not nested"
CALLS = (NESTED, KEY, FLAT)
SEES, ADDS = "an unflushed change, seen within", "add() within"
LAZY, SAVED = "lazy load afterwards", "the change, committed afterwards"


def main(arguments: Mapping[str, Any], database: str) -> dict[str, Any]:
    """Return words by row, by way of having a Session and by how the helper is called.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
    """
    gc.disable()
    truth = Truth(arguments, database)
    return {way: {call: _told(truth, way, call) for call in CALLS} for way in WAYS}


def _told(truth: Truth, way: str, call: str) -> dict[str, Any]:
    found: dict[str, Any] = {"says": {}}
    for row, play in ((SEES, _sees), (ADDS, _adds), (LAZY, _lazy), (SAVED, _saved)):
        truth.rewind()
        engine = truth.engine()
        app, get_session = _make_app(way, engine)

        def page(row: str = row, play: Any = play, app: Flask = app, get_session: Any = get_session) -> str:
            try:
                found[row] = play(get_session, _helper(app, call), truth, call)
            except Exception as problem:
                found[row] = "error"
                found["says"][row] = re.sub(r"(session|this is) '\d+'", r"\1 '…'", same(spoken(problem)))
            return "done"

        app.add_url_rule("/page", view_func=page)
        exchange(app, "/page")
        gc.collect()
        engine.dispose()
    return found


def _make_app(way: str, engine: Any) -> tuple[Flask, Callable[[], Any]]:
    app = Flask("pages")
    if way == RECIPE:
        flask_session.install(app, sessionmaker(engine))
        return app, flask_session.get_session
    if way == DB_SESSION:
        from flask_sqlalchemy import SQLAlchemy

        app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
        db = SQLAlchemy(app, session_options={"bind": engine})
        with app.app_context():
            db.engines[None] = engine
        return app, lambda: db.session()
    registry = scoped_session(sessionmaker(engine))
    app.teardown_appcontext(lambda exception: registry.remove())
    return app, registry


def _helper(app: Flask, call: str) -> Callable[[Callable[[], Any]], Any]:
    """What calls a function within a context of its own, as the helper has it, or without one."""

    def within(function: Callable[[], Any]) -> Any:
        with nullcontext() if call == FLAT else app.app_context():
            return function()

    return within


def _sees(get_session: Any, within: Any, truth: Truth, call: str) -> str:
    get_session().get_one(Page, 1).body = CHANGED
    seen = within(lambda: get_session().get_one(Page, 1).body)
    return "new" if seen == CHANGED else "old"


def _adds(get_session: Any, within: Any, truth: Truth, call: str) -> str:
    page = get_session().get_one(Page, 1)

    def add() -> None:
        session = get_session()
        # The helper's own Session has been at work.
        session.get_one(Page, 2)
        session.add(session.get_one(Page, 1) if call == KEY else page)
        session.commit()

    within(add)
    return "right"


def _lazy(get_session: Any, within: Any, truth: Truth, call: str) -> str:
    page = get_session().get_one(Page, 1)
    within(lambda: get_session().get_one(Page, 2).body)
    return "right" if written(page)[0] == STORED else "stale"


def _saved(get_session: Any, within: Any, truth: Truth, call: str) -> str:
    get_session().get_one(Page, 1).body = CHANGED
    within(lambda: get_session().get_one(Page, 2).body)
    get_session().commit()
    return "right" if truth.stored() == CHANGED else "lost"
