"""An object that one thread has loaded is handed to another one, which reads on, or saves it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, event, select, update
from sqlalchemy.orm import Session, scoped_session, selectinload, sessionmaker

from lab.drivers import spoken
from lab.pages import CHANGED, COMMENTS, STORED, Comment, Page, Truth, same
from lab.scenes.scope_lanes import Lane
from recipes.thread_session import OneThread

OBJECT, KEY, MERGE = "the object", "its primary key", "the object, merge()"
EXPUNGED, GUARDED = "the object, loaded whole and expunged", "the object, class_=OneThread"
HANDED = (OBJECT, KEY, MERGE, EXPUNGED, GUARDED)

LAZY, COMMITTED = "lazy load, A in a transaction", "column, A has committed"
REMOVED, ADDED = "lazy load, A has called remove()", "add() to B's Session"
SAVED = "saved by B"
# What another thread may use of what it is handed.
Handed = Page | int


def main(arguments: Mapping[str, Any], database: str) -> dict[str, Any]:
    """Return, by what is handed over, words by row; and "over A's connection", whether B's lazy load was.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
    """
    truth = Truth(arguments, database)
    return {handed: _told(truth, handed) for handed in HANDED}


def _told(truth: Truth, handed: str) -> dict[str, Any]:
    found: dict[str, Any] = {"says": {}}
    for row, play in ((LAZY, _lazy), (COMMITTED, _committed), (REMOVED, _removed), (ADDED, _added)):
        truth.rewind()
        stage = Stage(truth.engine(), handed)
        try:
            found[row] = play(stage, truth)
        except Exception as problem:
            found[row] = "error"
            # Sessions are numbered, by how many there were before.
            found["says"][row] = re.sub(r"session '\d+'|\(this is '\d+'\)", _unnumbered, same(spoken(problem)))
        if row == LAZY:
            found["over A's connection"] = stage.shared
        stage.end()
    return found


def _unnumbered(found: re.Match[str]) -> str:
    return re.sub(r"\d+", "…", found[0])


class Stage:
    """Threads A and B with a Session each, by a registry; A has loaded the page, and hands it over."""

    def __init__(self, engine: Engine, handed: str) -> None:
        self.engine, self.handed, self.a, self.b = engine, handed, Lane("A"), Lane("B")
        self.registry = scoped_session(sessionmaker(engine, class_=OneThread if handed == GUARDED else Session))
        self._used: dict[int, str] = {}
        self.shared = False
        event.listen(engine, "before_cursor_execute", self._note)
        self.thing: Handed = self.a(self._load)
        # What A holds of it is its own business.
        self.session: Session = self.a(self.registry)

    def _note(self, connection: Any, *_: object) -> None:
        owner = self._used.setdefault(id(connection.connection.dbapi_connection), threading.current_thread().name)
        self.shared |= owner != threading.current_thread().name

    def _load(self) -> Handed:
        session = self.registry()
        if self.handed == EXPUNGED:
            page = session.scalars(select(Page).where(Page.id == 1).options(selectinload(Page.comments))).one()
            for thing in (*page.comments, page):
                session.expunge(thing)
            return page
        page = session.get_one(Page, 1)
        return page.id if self.handed == KEY else page

    def taken(self) -> Page:
        """What B makes of what it is handed."""
        if isinstance(self.thing, int):
            return self.registry().get_one(Page, self.thing)
        return self.registry().merge(self.thing) if self.handed == MERGE else self.thing

    def end(self) -> None:
        for lane in (self.a, self.b):
            lane(self.registry.remove)
            lane.end()
        self.engine.dispose()


def _comments(stage: Stage) -> Callable[[], list[str]]:
    return lambda: [comment.body for comment in stage.taken().comments]


def _lazy(stage: Stage, truth: Truth) -> str:
    """A has changed a comment, and not committed it yet."""
    table = Comment.__table__
    stage.a(lambda: stage.registry.execute(update(table).where(table.c.id == 1).values(body=CHANGED)))
    got = stage.b(_comments(stage))
    return "right" if got == [*COMMENTS] else "dirty"


def _committed(stage: Stage, truth: Truth) -> str:
    """A has committed, and is in no transaction when B reads."""
    stage.a(stage.registry.commit)
    body = stage.b(lambda: stage.taken().body)
    assert body == STORED
    return "leaked" if stage.session.in_transaction() else "right"


def _removed(stage: Stage, truth: Truth) -> str:
    stage.a(stage.registry.remove)
    return "right" if stage.b(_comments(stage)) == [*COMMENTS] else "stale"


def _added(stage: Stage, truth: Truth) -> str:
    """B changes the page, and saves it by its own Session, in which it has worked before."""

    def save() -> None:
        stage.registry().get_one(Page, 2)
        page = stage.taken()
        page.body = SAVED
        stage.registry().add(page)
        stage.registry().commit()

    stage.b(save)
    return "right" if truth.stored() == SAVED else "lost"
