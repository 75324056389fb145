"""One process reads a row, another changes it, the first reads it again: what came over the wire, what the object says.

The writer is forked before there is an engine, and each waits for the other, so that nothing is left to chance.
"""

from __future__ import annotations

import os
import time
from typing import Any

from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str]


# MariaDB wants a length, and the column's type is no part of the story.
Page.__table__.c.body.type.length = 20


def main(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return what the ``object`` says at last, the process ids of ``reader`` and ``writer``, when it ``began``, notes.

    Args:
        settings: arguments of ``create_engine``.
        before: what the reader's session calls before it reads again: nothing, or "rollback".
    """
    go, told = os.pipe(), os.pipe()
    writer = os.fork()
    if not writer:
        try:
            _write(settings, go[0], told[1])
        finally:
            os._exit(0)
    engine = create_engine(**settings)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Page(id=1, body="old"))
    began, notes = time.time(), []
    with Session(engine) as session:
        page = session.scalars(select(Page)).one()
        notes.append((time.time(), "reader", f"page.body is {page.body!r}"))
        os.write(go[1], b"!")
        os.read(told[0], 1)
        if before == "rollback":
            session.rollback()
        session.scalars(select(Page)).one()
        notes.append((time.time(), "reader", f"page.body is {page.body!r}"))
        body = page.body
        ended = time.time()
    os.waitpid(writer, 0)
    return {
        "object": body, "reader": os.getpid(), "writer": writer, "began": began, "ended": ended, "notes": notes,
    }  # fmt: skip


def _write(settings: dict[str, Any], go: int, told: int) -> None:
    os.read(go, 1)
    engine = create_engine(**settings)
    with Session(engine) as session, session.begin():
        session.get(Page, 1).body = "new"
    os.write(told, b"!")
