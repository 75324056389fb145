"""What the identity map keeps, for how long, and what passes it by: one Session, and another that writes.

Nothing is left to chance: all happens in one thread, and the garbage collector runs where a case says so.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, ForeignKey, Integer, String, TypeDecorator, event, select, text, update
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.scenes.staleness import FRESH, READS, Base, Page, engines, logged, write, writing

BY_READ = ("attribute", "get()", "select(Entity)", "select(column)", "text()")


class Word(str):
    """A value that counts how often one of its kind was compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Word.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Words(TypeDecorator):
    impl = String(20)
    cache_ok = True

    def process_result_value(self, value: str, dialect: object) -> Word:
        return Word(value)


class Story(Base):
    __tablename__ = "stale_story"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(Words)
    comments: Mapped[list[Comment]] = relationship(back_populates="story")


class Comment(Base):
    __tablename__ = "stale_comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    story_id: Mapped[int] = mapped_column(Integer, ForeignKey("stale_story.id"))
    story: Mapped[Story] = relationship(back_populates="comments")


THE_STORY = select(Story).where(Story.id == 1)
SELECTS: dict[str, Callable[[Session, Story], str]] = {
    "get()": lambda session, story: session.get_one(Story, 1).body,
    "select(Entity)": lambda session, story: session.scalars(THE_STORY).one().body,
    "populate_existing": lambda session, story: session.scalars(THE_STORY, execution_options=FRESH).one().body,
    "the same value assigned, flush()": lambda session, story: _assign(session, story),
}
SYNCHRONIZED = ("auto", "evaluate", "fetch", False)
# What is committed in between does no more than its name says: see expire_on_commit.
STEPS = {"none": (), "expire_all()": ("expire_all",), "transaction ended": ("commit",)} | {
    "expire_all(), transaction ended": ("commit", "expire_all")
}


def main(engine: Mapping[str, Any], isolation: str, cases: Sequence[str], trials: int) -> dict[str, Any]:
    """Play *cases*, *trials* times each, on an engine at *isolation*.

    Args:
        engine: arguments of ``create_engine``.
        isolation: a level as ``create_engine`` takes it; any other name stands for the driver's own.
        cases: names of rows of ``CASES``.

    Returns:
        By case a list of trials: mappings from what was done to what was seen.
    """
    gc.disable()
    first, other = engines(engine, isolation)
    Base.metadata.create_all(other)
    with writing(other) as session:
        session.add(Page(id=1, body="old"))
        session.add(Story(id=1, body="old", comments=[Comment(id=1), Comment(id=2)]))
    try:
        return {case: [CASES[case](first, other) for _ in range(trials)] for case in cases}
    finally:
        Base.metadata.drop_all(other)


def _executed(first: Engine, other: Engine) -> dict[str, Any]:
    """What a read asks the database for, what comes back, and what the Session does with it."""
    return {name: _one_read(first, other, name) for name in SELECTS}


def _one_read(first: Engine, other: Engine, name: str) -> dict[str, Any]:
    _write_story(other, "old")
    refreshed: list[str] = []

    def listen(story: Story, context: object, attributes: Sequence[str] | None) -> None:
        refreshed.extend(("body",) if attributes is None else attributes)

    with Session(first) as session:
        story = session.get_one(Story, 1)
        _write_story(other, "new")
        event.listen(Story, "refresh", listen)
        Word.compared = 0
        try:
            with logged() as log:
                value = str(SELECTS[name](session, story))
        finally:
            event.remove(Story, "refresh", listen)
        compared = Word.compared
    sent = [word for word in ("old", "new") if any(line.startswith("Row") and word in line for line in log.told)]
    return {
        "value": value,
        "sent": " ".join(sent) or "nothing",
        "statements": log.statements,
        "compared": compared,
        "refreshed": "body" in refreshed,
        "sql": log.told,
    }


def _assign(session: Session, story: Story) -> str:
    story.body = Word("old")
    session.flush()
    return story.body


def _write_story(engine: Engine, body: str) -> None:
    with writing(engine) as session:
        session.execute(update(Story.__table__).where(Story.id == 1).values(body=body))


def _cycle(first: Engine, other: Engine) -> dict[str, Any]:
    """Let go of an object, and look whether the map has let go of it too."""
    return {
        "plain, dropped": _dropped(first, other, cycle=False, collect=False),
        "in a cycle, dropped": _dropped(first, other, cycle=True, collect=False),
        "in a cycle, dropped, gc.collect()": _dropped(first, other, cycle=True, collect=True),
        "changed, dropped, gc.collect()": _changed(first, other),
    }


def _dropped(first: Engine, other: Engine, *, cycle: bool, collect: bool) -> dict[str, Any]:
    _write_story(other, "old")
    with Session(first) as session:
        story: Any = session.get_one(Story, 1)
        if cycle:
            assert story is story.comments[0].story
        del story
        if collect:
            gc.collect()
        in_map = _stories(session)
        _write_story(other, "new")
        outcome = str(session.scalars(THE_STORY).one().body)
    gc.collect()
    return {"in_map": in_map, "outcome": outcome}


def _changed(first: Engine, other: Engine) -> dict[str, Any]:
    _write_story(other, "old")
    with Session(first) as session:
        story: Any = session.get_one(Story, 1)
        story.body = "changed"
        del story
        gc.collect()
        in_map = _stories(session)
        with session.no_autoflush:
            outcome = str(session.scalars(THE_STORY).one().body)
    return {"in_map": in_map, "outcome": outcome}


def _stories(session: Session) -> int:
    return sum(identity[0] is Story for identity in session.identity_map)


def _expire_on_commit(first: Engine, other: Engine) -> dict[str, Any]:
    """Commit, have another Session write, and read."""

    def read(name: str, expires: bool) -> dict[str, Any]:
        write(other, "old")
        with Session(first, expire_on_commit=expires) as session:
            page = session.get_one(Page, 1)
            session.commit()
            write(other, "new")
            with logged() as log:
                return {"outcome": READS[name](session, page), "sql": log.told, "message": ""}

    return {str(expires): {name: read(name, expires) for name in BY_READ} for expires in (True, False)}


def _bulk(first: Engine, other: Engine) -> dict[str, Any]:
    """Update the row of a loaded object by a statement of the same Session, and read in it."""
    the_page = update(Page).where(Page.id == 1).values(body="new")
    ways: dict[str, tuple[Any, dict[str, Any]]] = {
        f"synchronize_session={how!r}": (the_page, {"synchronize_session": how}) for how in SYNCHRONIZED
    }
    ways["the table's update()"] = (update(Page.__table__).where(Page.id == 1).values(body="new"), {})
    ways["text()"] = (text("UPDATE stale_page SET body = 'new' WHERE id = 1"), {})

    def read(name: str, statement: Any, options: dict[str, Any]) -> dict[str, Any]:
        write(other, "old")
        with Session(first) as session:
            page = session.get_one(Page, 1)
            with logged() as log:
                session.execute(statement, execution_options=options)
                if name == "commit(), attribute":
                    session.commit()
                outcome = READS["attribute" if name == "commit(), attribute" else name](session, page)
            return {"outcome": outcome, "sql": log.told, "message": ""}

    names = (*BY_READ, "commit(), attribute")
    return {way: {name: read(name, *how) for name in names} for way, how in ways.items()}


def _expire_all(first: Engine, other: Engine) -> dict[str, Any]:
    """Expire, end the transaction, both or neither; here, a commit does not expire."""

    def read(steps: Sequence[str]) -> dict[str, Any]:
        write(other, "old")
        with Session(first, expire_on_commit=False) as session:
            page = session.get_one(Page, 1)
            write(other, "new")
            with logged() as log:
                for step in steps:
                    getattr(session, step)()
                return {"outcome": page.body, "sql": log.told, "message": ""}

    return {name: read(steps) for name, steps in STEPS.items()}


def _invalidate(first: Engine, other: Engine) -> dict[str, Any]:
    """Call invalidate() through the registry, and on the Session in it."""
    found = {}
    for name in ("scoped_session", "the Session in it"):
        registry = scoped_session(sessionmaker(first))
        session = registry()
        session.connection()
        given_up: list[object] = []
        event.listen(first, "invalidate", lambda *what: given_up.append(what))  # noqa: B023 - called within the iteration
        seen = {"outcome": "right", "message": ""}
        try:
            (registry if name == "scoped_session" else session).invalidate()
        except AttributeError as problem:
            seen = {"outcome": "error", "message": spoken(problem)}
        found[name] = {**seen, "given_up": bool(given_up), "in_transaction": session.in_transaction()}
        with contextlib.suppress(Exception):
            registry.remove()
    return found


CASES: dict[str, Callable[[Engine, Engine], dict[str, Any]]] = {
    "executed": _executed,
    "cycle": _cycle,
    "expire_on_commit": _expire_on_commit,
    "bulk": _bulk,
    "expire_all": _expire_all,
    "invalidate": _invalidate,
}
