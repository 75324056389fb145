"""SQLite in memory and in a file: a Session in a thread that did not make it, and one that another thread makes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import StaticPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.pages import COMMENTS, STORED, Base, Comment, Page, written
from lab.scenes.scope_lanes import Lane

MEMORY, STATIC, FILE = "in memory", "in memory, StaticPool, check_same_thread=False", "in a file"
LAZY, OWN = "lazy load in another thread", "another thread's own Session"


def main() -> dict[str, Any]:
    """Return, by where the database is, words by row; and the class of the ``pool`` that SQLAlchemy takes there."""
    with TemporaryDirectory() as home:
        return {where: _play(where, Path(home)) for where in (MEMORY, STATIC, FILE)}


def _play(where: str, home: Path) -> dict[str, Any]:
    static: dict[str, Any] = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
    url = f"sqlite:///{home / 'pages.db'}" if where == FILE else "sqlite://"
    engine = create_engine(url, **(static if where == STATIC else {}))
    a, b = Lane("A"), Lane("B")
    session = a(Session, engine)

    def load() -> Page:
        Base.metadata.create_all(engine)
        comments = [Comment(id=n, body=body) for n, body in enumerate(COMMENTS, 1)]
        session.add(Page(id=1, body=STORED, comments=comments))
        session.commit()
        session.expire_all()
        return session.get_one(Page, 1)

    page = a(load)

    def own() -> list[str]:
        with Session(engine) as mine:
            return written(mine.get_one(Page, 1))

    found: dict[str, Any] = {"pool": type(engine.pool).__name__, "says": {}}
    steps: dict[str, Callable[[], list[str]]] = {LAZY: lambda: written(page), OWN: own}
    for row, step in steps.items():
        try:
            found[row] = "right" if b(step) == [STORED, *COMMENTS] else "stale"
        except DBAPIError as problem:
            found[row] = "error"
            # The ids of the threads differ from run to run.
            found["says"][row] = re.sub(r"\d{4,}", "…", spoken(problem))
    a(session.close)
    a(engine.dispose)
    for lane in (a, b):
        lane.end()
    return found
