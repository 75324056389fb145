"""A Session loads a row, another commits a new value: what the recipe's functions answer, and the calls in their place.

And: a Session has work that is not committed when somebody calls for fresh reads: what becomes of that work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, select, text, update
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError
from sqlalchemy.orm import Session, sessionmaker

from lab.drivers import spoken
from lab.scenes.staleness import THE_PAGE, Base, Page, engines, logged, write, writing
from recipes.fresh_reads import locked, reread, restart, watch

Read = Callable[[Session, Any], str]
MINE = 2


def _attribute(session: Session, page: Page) -> str:
    return page.body


def _refreshed(session: Session, page: Page) -> str:
    session.refresh(page)
    return page.body


def _reread(session: Session, page: Page | None) -> str:
    page = page or session.get_one(Page, 1)
    reread(session, page)
    return page.body


def _restarted(session: Session, page: object) -> str:
    restart(session)
    return session.get_one(Page, 1).body


READS: dict[str, Read] = {
    "attribute": _attribute,
    "select(Entity)": lambda session, page: session.scalars(THE_PAGE).one().body,
    "refresh()": _refreshed,
    "reread()": _reread,
    "restart(), get()": _restarted,
    "locked()": lambda session, page: locked(session, Page, 1).body,
}
OF_THE_OBJECT = ("attribute", "refresh()")


def main(engine: Mapping[str, Any], isolations: Sequence[str], trials: int) -> dict[str, Any]:
    """Play every read at each of *isolations*, held and released, and all work under each call, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        isolations: as :func:`lab.scenes.staleness.main` takes them.

    Returns:
        ``reads``, a list of trials: by read, by "isolation, held", the ``outcome``, ``message`` and ``sql``; and
        ``work``, a list of trials: by call, by kind of work, ``outcome`` and ``message``.
    """
    reads: list[dict[str, Any]] = [{name: {} for name in READS} for _ in range(trials)]
    work: list[dict[str, Any]] = []
    for isolation in isolations:
        first, other = engines(engine, isolation)
        Base.metadata.create_all(other)
        with writing(other) as session:
            session.add_all([Page(id=1, body="old"), Page(id=MINE, body="old")])
        make_session = watch(sessionmaker(first))
        for rows in reads:
            for name, cells in rows.items():
                for held in ("held", "released"):
                    cells[f"{isolation}, {held}"] = _play(make_session, other, name, held == "held")
        if isolation == isolations[0]:
            kinds = [kind for kind in WORK if kind not in NOT_IN_SQLITE or other.dialect.name != "sqlite"]
            for _ in range(trials):
                played = {call: {kind: _risk(make_session, other, call, kind) for kind in kinds} for call in CALLS}
                work.append(played)
        Base.metadata.drop_all(other)
        first.dispose()
        other.dispose()
    return {"reads": reads, "work": work}


def _play(make_session: sessionmaker[Session], other: Engine, name: str, held: bool) -> dict[str, Any]:
    if not held and name in OF_THE_OBJECT:
        return {"outcome": "–", "message": "", "sql": []}
    write(other, "old")
    with make_session() as session:
        page: Any = session.get_one(Page, 1)
        if not held:
            page = None
        write(other, "new")
        message = ""
        with logged() as log:
            try:
                outcome = READS[name](session, page)
            except DBAPIError as problem:
                outcome, message = "error", spoken(problem)
            except InvalidRequestError as problem:
                outcome, message = "refused", spoken(problem)
        return {"outcome": outcome, "message": message, "sql": log.told}


READS_ONLY = "nothing but reads"
LOCK, SAVEPOINT = "a row locked, FOR UPDATE", "flush() in a savepoint"
# It has no row locks; and where Python's driver has begun nothing, releasing a savepoint commits.
NOT_IN_SQLITE = (LOCK, SAVEPOINT)


def _add(session: Session) -> None:
    session.add(Page(id=3, body="mine"))


def _change(session: Session) -> None:
    session.get_one(Page, MINE).body = "mine"


def _delete(session: Session) -> None:
    session.delete(session.get_one(Page, MINE))


def _flush(session: Session) -> None:
    _change(session)
    session.flush()


def _savepoint(session: Session) -> None:
    with session.begin_nested():
        _change(session)


WORK: dict[str, Callable[[Session], object]] = {
    "add()": _add,
    "an attribute set": _change,
    "delete()": _delete,
    "flush()": _flush,
    SAVEPOINT: _savepoint,
    "execute(update())": lambda session: session.execute(update(Page).where(Page.id == MINE).values(body="mine")),
    "execute(text())": lambda session: session.execute(text(f"UPDATE stale_page SET body = 'mine' WHERE id = {MINE}")),
    "connection()": lambda session: session.connection().exec_driver_sql(
        f"UPDATE stale_page SET body = 'mine' WHERE id = {MINE}"
    ),
    LOCK: lambda session: session.execute(select(Page.id).where(Page.id == MINE).with_for_update()).all(),
    READS_ONLY: lambda session: None,
}
CALLS: dict[str, Callable[[Session], object]] = {"rollback()": lambda session: session.rollback(), "restart()": restart}


def _risk(make_session: sessionmaker[Session], other: Engine, call: str, kind: str) -> dict[str, str]:
    with writing(other) as session:
        session.query(Page).where(Page.id >= MINE).delete()
        session.add(Page(id=MINE, body="old"))
    write(other, "old")
    with make_session() as session:
        page = session.get_one(Page, 1)
        WORK[kind](session)
        if kind == READS_ONLY:
            write(other, "new")
        message = ""
        try:
            CALLS[call](session)
        except InvalidRequestError as problem:
            message = spoken(problem)
        if kind == LOCK:
            return {"outcome": "kept" if _is_locked(other) else "lost", "message": message, "sql": []}
        session.commit()
        body = page.body
    if kind == READS_ONLY:
        return {"outcome": "refused" if message else body, "message": message, "sql": []}
    with Session(other) as session:
        # One row stands as "old" where nothing was kept.
        stored = [session.scalars(select(Page.body).where(Page.id >= MINE).order_by(Page.id)).all()]
    return {"outcome": "lost" if stored == [["old"]] else "kept", "message": message, "sql": []}


def _is_locked(other: Engine) -> bool:
    with Session(other) as session:
        try:
            session.execute(select(Page.id).where(Page.id == MINE).with_for_update(nowait=True)).all()
        except OperationalError:
            return True
    return False
