"""Requests whose Sessions a failing teardown function leaves: is the Session of one handed to the context of another?

Flask-SQLAlchemy's scope is ``id()`` of the context, and once an object is freed, its id can be another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import g
from flask.globals import app_ctx
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from lab.apps.flask_pages import flask_session, make_app
from lab.hazards import FLASK_RECIPE
from lab.pages import CHANGED, STORED, Page, Truth
from lab.wsgi import exchange

# The pages that the lab's other requests use.
_OTHERS = 2


def main(arguments: Mapping[str, Any], database: str, remedy: str, spoils: str, requests: int) -> dict[str, Any]:
    """Put requests that each change a page of their own, flush and commit nothing, until one is handed an old Session.

    That one commits, and is the last. Return ``handed``, whether there was one, ``at_request``, the number of it,
    ``same_id``, whether a context had the id of an earlier one's, and ``dirty``, how many changes the database holds.

    Args:
        arguments: those of ``create_engine``, for a server that locks no more than rows.
        database: the kind of server.
        remedy: :data:`lab.hazards.DB_SESSION` or the recipe.
        spoils: the kind of teardown function that raises after each request; "" for none.
        requests: how many requests there are at most.
    """
    truth = Truth(arguments, database)
    truth.rewind()
    engine = truth.engine(pool_size=requests)
    with Session(engine) as session:
        session.add_all(Page(id=_OTHERS + n, body=STORED) for n in range(1, requests + 1))
        session.commit()
    app = make_app(remedy, engine)
    get_session = flask_session.get_session if remedy == FLASK_RECIPE else app.extensions["sqlalchemy"].session
    sessions: list[Session] = []
    ids: list[int] = []

    @app.get("/change-<int:page>")
    def change(page: int) -> str:
        g.spoil = spoils
        session = get_session()
        ids.append(id(app_ctx._get_current_object()))
        if any(session is old for old in sessions):
            session.commit()
            return "old"
        sessions.append(session)
        session.get_one(Page, page).body = CHANGED
        session.flush()
        return "new"

    handed = 0
    for count in range(1, requests + 1):
        known = len(sessions)
        exchange(app, f"/change-{_OTHERS + count}")
        if len(sessions) == known:
            handed = count
            break
    with Session(engine) as session:
        dirty = session.scalar(select(func.count()).where(Page.body == CHANGED))
    return {"handed": bool(handed), "at_request": handed, "same_id": len(set(ids)) < len(ids), "dirty": dirty}
