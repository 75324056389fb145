"""Two jobs in one worker, the second after something went on: with the Session that the first left, or with its own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, delete
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.pages import Comment, Page, Truth

CHANGED = "done"
held: list[Page] = []


def _read(session: Session) -> None:
    """Handle the page, and keep it, as a worker keeps its results."""
    held.append(session.get_one(Page, 1))


def _fail(session: Session) -> None:
    """Write what the database refuses; the worker's loop goes on."""
    session.add(Page(id=2, body="twice"))
    session.flush()


def _delete(engine: Engine) -> None:
    with engine.begin() as connection:
        for statement in (delete(Comment), delete(Page).where(Page.id == 1)):
            connection.execute(statement)


def _nothing(engine: Engine) -> None:
    pass


# What the first job does, what another process does then, and the id of the page that the second job is for.
CASES: dict[str, tuple[Callable[[Session], None], Callable[[Engine], None], int]] = {
    "the row was deleted meanwhile": (_read, _delete, 1),
    "the job before failed in a flush": (_fail, _nothing, 2),
    "nothing happened": (_read, _nothing, 1),
}


def main(arguments: Mapping[str, Any], database: str, cases: Sequence[tuple[str, bool]]) -> dict[str, Any]:
    """Return for each of *cases* what the second job ``does``: "writes", "finds no row", "nothing"; and its ``error``.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
        cases: names from ``CASES``, and whether each job has a Session of its own, or the worker one for all.
    """
    truth = Truth(arguments, database)
    other = create_engine(**arguments)
    rows = [_play(truth, other, *case) for case in cases]
    other.dispose()
    return {"rows": rows}


def _play(truth: Truth, other: Engine, case: str, own: bool) -> dict[str, str]:
    truth.rewind()
    engine = truth.engine()
    first, meanwhile, page = CASES[case]
    sessions = iter([Session(engine), Session(engine)])
    session = next(sessions)
    with contextlib.suppress(IntegrityError):
        first(session)
    if own:
        session.close()
        session = next(sessions)
    meanwhile(other)
    try:
        does, error = _second(session, page), ""
    except Exception as problem:
        does, error = "nothing", spoken(problem)
    session.close()
    engine.dispose()
    return {"does": does, "error": error}


def _second(session: Session, number: int) -> str:
    page = session.get(Page, number)
    if page is None:
        return "finds no row"
    page.body = CHANGED
    session.commit()
    return "writes"
