"""Someone writes through a Session that sends readers to a standby, and reads again while the standby is behind.

The caller holds the standby's replay before the scene and lets it go on after it. Every question has a row of its own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, event, func, insert, select, text, update
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.scenes.routed import ROUTES, ROWS, Page
from recipes.read_your_writes import ReadYourWrites


def main(primary: Mapping[str, Any], standby: Mapping[str, Any]) -> dict[str, Any]:
    """Ask all questions along their routes; return by question, route and row its word, what was said, and the SQL.

    Args:
        primary: arguments of ``create_engine``; so is *standby*.
    """
    engines = {"primary": create_engine(**primary), "standby": create_engine(**standby)}
    numbers = itertools.count(1)
    told = {}
    for question, (routes, rows) in QUESTIONS.items():
        for route in routes:
            scene = Scene(engines, route)
            told.setdefault(question, {})[route] = {row: scene.ask(next(numbers), *how) for row, how in rows.items()}
            scene.leave()
    return told


class Scene:
    """Two engines and a way to route: whose row is asked about, and which statements went where."""

    def __init__(self, engines: Mapping[str, Engine], route: str) -> None:
        self.engines = engines
        self.make_session = ROUTES[route](engines["primary"], engines["standby"])
        self.row = 0
        # Strongly, as a view does: what the Session's identity map holds it holds weakly.
        self.page: Page | None = None
        self.sent: list[str] = []
        self._listeners = {engine: self._listener(name) for name, engine in engines.items()}
        for engine, listener in self._listeners.items():
            event.listen(engine, "before_cursor_execute", listener)

    def leave(self) -> None:
        for engine, listener in self._listeners.items():
            event.remove(engine, "before_cursor_execute", listener)

    def ask(self, row: int, write: Step, read: Step) -> dict[str, Any]:
        """Write with one Session, then read: ``new``, ``old``, or ``error`` if either fails."""
        self.row, self.page, word, says = row, None, "error", ""
        self.sent.clear()
        with self.make_session() as session:
            try:
                write(session, self)
                self.sent.clear()
                word = read(session, self) or "old"
            except Exception as problem:
                says = re.sub(r" at 0x\w+", "", spoken(problem))
        return {"word": word, "says": says, "sql": list(dict.fromkeys(self.sent))}

    def _listener(self, name: str) -> Callable[..., None]:
        def note(connection, cursor, statement, parameters, context, executemany):
            self.sent.append(f"{name}: {' '.join(statement.split())}")

        return note


Step = Callable[[Session, Scene], Any]


def _add(session: Session, scene: Scene) -> None:
    scene.row += ROWS
    scene.page = Page(id=scene.row, title="new")
    session.add(scene.page)
    session.flush()


def _change(session: Session, scene: Scene) -> None:
    scene.page = session.get_one(Page, scene.row)
    scene.page.title = "new"
    session.flush()


def _delete(session: Session, scene: Scene) -> None:
    session.delete(session.get_one(Page, scene.row))
    session.flush()


def _insert(session: Session, scene: Scene) -> None:
    scene.row += ROWS
    session.execute(insert(Page.__table__).values(id=scene.row, title="new"))


def _update(session: Session, scene: Scene) -> None:
    session.execute(update(Page.__table__).where(Page.id == scene.row).values(title="new"))


def _text(session: Session, scene: Scene) -> None:
    session.execute(text("update page set title = 'new' where id = :id"), {"id": scene.row})


def _lock(session: Session, scene: Scene) -> None:
    session.get_one(Page, scene.row, with_for_update=True).title = "new"
    session.flush()


def _commit(write: Step) -> Step:
    def step(session: Session, scene: Scene) -> None:
        write(session, scene)
        session.commit()

    return step


def _row(session: Session, scene: Scene) -> str | None:
    """The row's title, past the identity map."""
    return session.scalar(select(Page.title).where(Page.id == scene.row))


def _in_a_new_session(read: Step) -> Step:
    def step(session: Session, scene: Scene) -> Any:
        with scene.make_session() as another:
            return read(another, scene)

    return step


def _object(session: Session, scene: Scene) -> str:
    return scene.page.title


def _is_gone(session: Session, scene: Scene) -> str:
    return "old" if session.get(Page, scene.row) else "new"


def _after(act: Callable[[Session, Page], Any]) -> Step:
    def step(session: Session, scene: Scene) -> str:
        act(session, scene.page)
        return session.get_one(Page, scene.row).title

    return step


def _with_token(session: Session, scene: Scene) -> Any:
    token = {"token": session.token} if isinstance(session, ReadYourWrites) else {}
    with scene.make_session(**token) as another:
        return _row(another, scene)


def _done(what: Callable[[Session, Scene], Any]) -> Step:
    def step(session: Session, scene: Scene) -> str:
        what(session, scene)
        session.commit()
        return "right"

    return step


def _nothing(session: Session, scene: Scene) -> None:
    pass


def _populate(session: Session, page: Page) -> None:
    session.scalars(select(Page).where(Page.id == page.id).execution_options(populate_existing=True)).one()


def _refresh_and_lock(session: Session, page: Page) -> None:
    session.refresh(page, with_for_update=True)


def _number(session: Session, scene: Scene) -> None:
    session.scalar(select(func.nextval("page_id_seq")))


def _number_from_the_primary(session: Session, scene: Scene) -> None:
    if isinstance(session, ReadYourWrites):
        session.use_primary()
    _number(session, scene)


_WRITES = {"flush()": _change, "insert()": _insert, "update()": _update, "text()": _text, "with_for_update()": _lock}
# The routes along which a question is asked, and for each row how to write and then to read.
QUESTIONS: dict[str, tuple[tuple[str, ...], dict[str, tuple[Step, Step]]]] = {
    "after the commit": (
        ("by statement", "all to the primary"),
        {
            "a row added": (_commit(_add), _in_a_new_session(_row)),
            "a row changed": (_commit(_change), _in_a_new_session(_row)),
            "a row deleted": (_commit(_delete), _in_a_new_session(_is_gone)),
            "the changed object itself": (_commit(_change), _object),
            "the added object itself": (_commit(_add), _object),
        },
    ),
    "again": (
        ("by statement", "all to the primary"),
        {
            "refresh()": (_commit(_change), _after(lambda session, page: session.refresh(page))),
            "expire()": (_commit(_change), _after(lambda session, page: session.expire(page))),
            "populate_existing": (_commit(_change), _after(_populate)),
            "expunge_all()": (_commit(_change), _after(lambda session, page: session.expunge_all())),
            "rollback()": (_commit(_change), _after(lambda session, page: session.rollback())),
            "close()": (_commit(_change), _after(lambda session, page: session.close())),
            "a new Session": (_commit(_change), _in_a_new_session(_row)),
            "a column": (_commit(_change), _row),
            "with_for_update()": (
                _commit(_change),
                _after(_refresh_and_lock),
            ),
        },
    ),
    "own write": (
        ("by statement", "read_your_writes"),
        {
            **{f"{name}, before the commit": (write, _row) for name, write in _WRITES.items()},
            **{f"{name}, after it": (_commit(write), _row) for name, write in _WRITES.items()},
            "the user's next Session": (_commit(_change), _with_token),
            "another user's Session": (_commit(_change), _in_a_new_session(_row)),
        },
    ),
    "refused": (
        tuple(ROUTES),
        {
            "flush() of a new object": (_nothing, _done(_add)),
            **{name: (_nothing, _done(write)) for name, write in list(_WRITES.items())[1:]},
            "select() of nextval()": (_nothing, _done(_number)),
            "use_primary(), then the same": (_nothing, _done(_number_from_the_primary)),
        },
    ),
}
