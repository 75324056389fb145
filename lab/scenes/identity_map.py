"""What the identity map keeps, for how long, and what passes it by: one Session, and another that writes.

Nothing is left to chance: all happens in one thread, and the garbage collector runs where a case says so.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, ForeignKey, Integer, String, TypeDecorator, event, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from lab.scenes import expiry
from lab.scenes.staleness import FRESH, Base, Page, engines, logged, writing


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


CASES: dict[str, Callable[[Engine, Engine], dict[str, Any]]] = {
    "executed": _executed,
    "cycle": _cycle,
    "expire_on_commit": expiry.expire_on_commit,
    "bulk": expiry.bulk_update,
    "expire_all": expiry.expire_all,
    "invalidate": expiry.invalidate,
}
