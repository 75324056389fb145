"""What a Session expires, and what it does not: commits, its own updates, expire_all(), invalidate()."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, event, text, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.scenes.staleness import READS, Page, logged, write

BY_READ = ("attribute", "get()", "select(Entity)", "select(column)", "text()")
SYNCHRONIZED = ("auto", "evaluate", "fetch", False)
# What is committed in between does no more than its name says: see expire_on_commit.
STEPS = {"none": (), "expire_all()": ("expire_all",), "transaction ended": ("commit",)} | {
    "expire_all(), transaction ended": ("commit", "expire_all")
}


def expire_on_commit(first: Engine, other: Engine) -> dict[str, Any]:
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


def bulk_update(first: Engine, other: Engine) -> dict[str, Any]:
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


def expire_all(first: Engine, other: Engine) -> dict[str, Any]:
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


def invalidate(first: Engine, other: Engine) -> dict[str, Any]:
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
