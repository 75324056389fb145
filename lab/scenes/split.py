"""A parent writes two rows in one transaction and forks in between; its child frees the inherited session (F6)."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lab.drivers import spoken

engine: Engine
session: Session


class Base(DeclarativeBase):
    pass


class Work(Base):
    __tablename__ = "work"
    part: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


def main(
    settings: dict[str, Any], before: Sequence[str] = (), child: Sequence[str] = (), end: str = "commit"
) -> dict[str, Any]:
    """Return the parts that the database ``kept`` and the parent's ``error``, the process ids, and when who did what.

    Args:
        settings: arguments of ``create_engine``.
        before: ``session.close`` has the parent commit the first part and close its session before the fork,
            ``engine.dispose`` has it close its connection as well.
        child: what the child does before it leaves through ``os._exit``: ``session = Session(engine)``,
            ``engine = create_engine(...)``, ``gc.collect``.
        end: how the parent ends its transaction, ``commit`` or ``rollback``.
    """
    _open(settings)
    session.add(Work(part=1))
    session.flush()
    if "session.close" in before:
        session.commit()
        session.close()
    if "engine.dispose" in before:
        engine.dispose()
    notes = [(time.time(), "parent", "forks")]
    pid = os.fork()
    if not pid:
        try:
            _take(child, settings)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    notes.append((time.time(), "child", "has left, through os._exit"))
    error = ""
    try:
        session.add(Work(part=2))
        session.flush()
        getattr(session, end)()
    except Exception as problem:
        error = spoken(problem)
    with contextlib.suppress(Exception):
        session.close()
    return {
        "kept": _kept(settings),
        "error": error,
        "parent": os.getpid(),
        "child": pid,
        "notes": notes,
    }


def _open(settings: dict[str, Any]) -> None:
    global engine, session
    engine = create_engine(**settings)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    session = Session(engine)


def _take(steps: Sequence[str], settings: dict[str, Any]) -> None:
    global engine, session
    for step in steps:
        if step == "engine = create_engine(...)":
            engine = create_engine(**settings)
        elif step == "session = Session(engine)":
            session = Session(engine)
        elif step == "gc.collect":
            gc.collect()
        else:
            raise ValueError(step)


def _kept(settings: dict[str, Any]) -> list[int]:
    """What is in the database, asked on a connection that nobody has shared."""
    reader = create_engine(**settings)
    with reader.connect() as connection:
        parts = list(connection.scalars(select(Work.part).order_by(Work.part)))
    reader.dispose()
    return parts
