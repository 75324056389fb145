"""A worker that lives for long polls one row with one Session, while another process's change is committed.

The change comes when the worker has read the row once; then it polls, and what counts is which poll is the first to
see the change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Job(Base):
    __tablename__ = "job"
    id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]


READS: dict[str, Callable[[Session, Job], str]] = {
    "attribute": lambda session, job: job.state,
    "get()": lambda session, job: session.get(Job, job.id).state,
    "select(Entity)": lambda session, job: session.scalars(select(Job)).one().state,
    "select(column)": lambda session, job: session.scalar(select(Job.state)),
    "text()": lambda session, job: session.scalar(text("select state from job")),
    "populate_existing": lambda session, job: (
        session.scalars(select(Job).execution_options(populate_existing=True)).one().state
    ),
    "refresh()": lambda session, job: session.refresh(job) or job.state,
}


def main(engine: Mapping[str, Any], isolation: str, rollback: bool, polls: int, trials: int) -> dict[str, Any]:
    """Poll with each kind of read, each with a Session of its own; all of it *trials* times.

    Args:
        engine: arguments of ``create_engine``; the table ``job`` is there, with one row.
        isolation: the worker's; empty for the server's own.
        rollback: whether ``session.rollback()`` comes before each poll.
        polls: how often to poll at most.

    Returns:
        ``trials``, for each a mapping from the name of the read to the number of the first poll that saw the change, 0
        if none did.
    """
    level = {"isolation_level": isolation} if isolation else {}
    worker, other = create_engine(**engine, **level), create_engine(**engine)
    return {
        "trials": [
            {name: _poll(worker, other, read, rollback, polls) for name, read in READS.items()} for _ in range(trials)
        ]
    }


def _poll(worker: Engine, other: Engine, read: Callable, rollback: bool, polls: int) -> int:
    _store(other, "queued")
    with Session(worker) as session:
        # The row has been read, and this name keeps the object.
        job = session.scalars(select(Job)).one()
        if read(session, job) != "queued":
            raise RuntimeError("the first poll saw what nobody has written")
        _store(other, "done")
        for number in range(1, polls + 1):
            if rollback:
                session.rollback()
            if read(session, job) == "done":
                return number
    return 0


def _store(engine: Engine, state: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("update job set state = :state"), {"state": state})
