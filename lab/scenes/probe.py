"""Each cause of an old value, forced; what the probe and a naive check say of it; and what asking has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, delete, event, inspect, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from lab.scenes.staleness import Base, Page, engines, write, writing
from lab.scenes.worker import STALE
from recipes.staleness_probe import diagnose

# What the caller does on a primary before its standby is held; each trial has a row of its own.
ROWS = 20
STAGE = (
    "drop table if exists stale_page",
    "create table stale_page (id int primary key, body varchar(20))",
    f"insert into stale_page select n, 'old' from generate_series(1, {ROWS}) as n",
)
Check = Callable[..., str]


def probe(session: Session, page: Page, **how: Any) -> str:
    return diagnose(session, page, **how).cause.name.lower().replace("_", " ")


def by_entity(session: Session, page: Page, **how: Any) -> str:
    """Compare the object with a query for it."""
    shown = page.body
    found = session.scalars(select(Page).where(Page.id == page.id)).one_or_none()
    return "no difference" if found is not None and shown == found.body else "a difference"


def by_sql(session: Session, page: Page, **how: Any) -> str:
    """Compare the object with its row, in SQL, through the same Session."""
    shown = page.body
    stored = session.scalar(text("select body from stale_page where id = :id"), {"id": page.id})
    return "no difference" if shown == stored else "a difference"


CHECKS: dict[str, Check] = {"select(Entity)": by_entity, "text()": by_sql, "staleness_probe": probe}


def main(
    engine: Mapping[str, Any], isolations: Sequence[str], trials: int, standby: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Force every cause at each of *isolations*, *trials* times, for each check.

    Args:
        engine: arguments of ``create_engine``; with *standby*, that of the primary.
        standby: the same of its standby, whose replay the caller holds; then the causes are those of a replica.

    Returns:
        ``named`` by isolation and check, and ``kept`` by isolation and call: lists of trials' facts.
    """
    if standby:
        return {"named": {check: _replica(engine, standby, check, trials) for check in CHECKS}}
    found: dict[str, Any] = {"named": {}, "kept": {}}
    for isolation in isolations:
        first, other = engines(engine, isolation)
        first.echo = False
        Base.metadata.create_all(other)
        for check in CHECKS:
            facts = [{cause: _force(first, other, check, cause) for cause in CAUSES} for _ in range(trials)]
            found["named"].setdefault(isolation, {})[check] = facts
        for call in CALLS:
            facts = [_look(first, other, call) for _ in range(trials)]
            found["kept"].setdefault(isolation, {})[call] = facts
        Base.metadata.drop_all(other)
        first.dispose()
        other.dispose()
    return found


def _held(session: Session, other: Engine, page: Page) -> None:
    # The next transaction begins after the change, and the object stays as it was: expire_on_commit is off.
    session.commit()
    write(other, "new")
    session.execute(select(Page.id)).all()


def _held_alone(session: Session, other: Engine, page: Page) -> None:
    session.commit()
    write(other, "new")


def _changed(session: Session, other: Engine, page: Page) -> None:
    write(other, "new")


def _gone(session: Session, other: Engine, page: Page) -> None:
    with writing(other) as writer:
        writer.execute(delete(Page.__table__).where(Page.id == 1))


def _mine(session: Session, other: Engine, page: Page) -> None:
    page.body = "mine"


def _flushed(session: Session, other: Engine, page: Page) -> None:
    page.body = "mine"
    session.flush()


def _updated(session: Session, other: Engine, page: Page) -> None:
    session.execute(update(Page).where(Page.id == 1).values(body="mine"))


def _nothing(session: Session, other: Engine, page: Page) -> None:
    pass


NOBODY = "nobody has committed"
CAUSES: dict[str, Callable[[Session, Engine, Page], None]] = {
    "an object held from before": _held,
    "the same, no transaction": _held_alone,
    "a commit since it was read": _changed,
    "its row deleted since": _gone,
    "an attribute set": _mine,
    "a flush": _flushed,
    "an update()": _updated,
    NOBODY: _nothing,
    "nothing": _nothing,
}


def _force(first: Engine, other: Engine, check: str, cause: str) -> str:
    with writing(other) as session:
        session.query(Page).delete()
        session.add(Page(id=1, body="old"))
    writer = Session(other)
    with writer, Session(first, expire_on_commit=False) as session:
        page = session.get_one(Page, 1)
        CAUSES[cause](session, other, page)
        how = {}
        if cause == NOBODY:
            writer.execute(update(Page.__table__).values(body="new"))
            how = {"expected": {"body": "new"}}
        return CHECKS[check](session, page, **how)


def _replica(primary: Mapping[str, Any], standby: Mapping[str, Any], check: str, trials: int) -> list[dict[str, str]]:
    reader, writer = create_engine(**standby), create_engine(**primary)
    facts = []
    for number in range(1 + list(CHECKS).index(check) * trials, 1 + (list(CHECKS).index(check) + 1) * trials):
        with Session(reader) as session:
            page = session.get_one(Page, number)
            fresh = CHECKS[check](session, page, truth=writer)
            with Session(writer) as other, other.begin():
                other.execute(update(Page).where(Page.id == number).values(body="new"))
            session.rollback()
            lags = CHECKS[check](session, page, truth=writer)
            unseen = CHECKS[check](session, page)
        facts.append({"a replica that lags": lags, "the same, no truth given": unseen, "nothing": fresh})
    return facts


CALLS: dict[str, Callable[[Session, Page], object]] = {
    "refresh()": lambda session, page: session.refresh(page),
    "select(Entity)": lambda session, page: session.scalars(select(Page)).all(),
    "rollback()": lambda session, page: session.rollback(),
    "diagnose()": lambda session, page: diagnose(session, page),
}


def _look(first: Engine, other: Engine, call: str) -> dict[str, str]:
    """What is another thing after *call*: in a Session with work of every kind, and in one without a transaction."""
    with writing(other) as session:
        session.query(Page).delete()
        session.add_all([Page(id=number, body="old") for number in (1, 2, 3, 4)])
    with Session(first, expire_on_commit=False) as session:
        pages = session.scalars(select(Page).order_by(Page.id)).all()
        pages[1].body = "mine"
        session.delete(pages[2])
        session.expire(pages[3])
        session.add(Page(id=5, body="mine"))
        write(other, "new")
        with _counted(session.connection()) as sent:
            before = _state(session, first, other, pages)
            sent.clear()
            try:
                CALLS[call](session, pages[0])
                mine = list(sent)
                after = _state(session, first, other, pages)
                facts = {name: "as before" if before[name] == after[name] else "changed" for name in before}
                facts["what is sent on it"] = (
                    "reads" if all(line.lower().startswith("select") for line in mine) else "more"
                )
            except OperationalError:
                # SQLite writes nothing in a transaction that has read what is old by now.
                facts = dict.fromkeys([*before, "what is sent on it"], "error")
    with Session(first, expire_on_commit=False) as session:
        page = session.get_one(Page, 1)
        session.commit()
        CALLS[call](session, page)
        begun = session.in_transaction() or first.pool.checkedout()
        facts["no transaction"] = "changed" if begun else "as before"
    return facts


@contextmanager
def _counted(connection: Connection) -> Iterator[list[str]]:
    """The statements that are sent on *connection*."""
    sent: list[str] = []

    def execute(connection, cursor, statement, parameters, context, executemany) -> None:
        sent.append(statement)

    event.listen(connection, "before_cursor_execute", execute)
    try:
        yield sent
    finally:
        event.remove(connection, "before_cursor_execute", execute)


IDENTITY = {
    "postgresql": "select pid, xact_start, backend_xid::text, backend_xmin::text from pg_stat_activity"
    " where state like 'idle in transaction%' and pid = {backend}",
    "mysql": "select trx_id, trx_started, trx_rows_modified from information_schema.innodb_trx"
    " where trx_mysql_thread_id = {backend}",
}
BACKEND = {"postgresql": "select pg_backend_pid()", "mysql": "select connection_id()"}


def _state(session: Session, first: Engine, other: Engine, pages: Sequence[Page]) -> dict[str, Any]:
    states = [inspect(page) for page in pages]
    return {
        "the transaction": _identity(session, other),
        "the objects": [(dict(state.dict), sorted(state.expired_attributes)) for state in states],
        "unflushed work": (len(session.new), len(session.deleted), [state.modified for state in states]),
        "the identity map": sorted(session.identity_map.keys()),
        "the pool": first.pool.checkedout(),
    }


def _identity(session: Session, other: Engine) -> Any:
    """Which transaction it is, as the server says, and what it sees."""
    kind = other.dialect.name
    if not session.in_transaction():
        return None
    connection = session.connection()
    sees = connection.execute(select(Page.body).where(Page.id == 1)).scalar()
    if kind == "sqlite":
        raw = connection.connection.driver_connection
        return raw.in_transaction, raw.total_changes, sees
    backend = connection.scalar(text(BACKEND[kind]))
    time.sleep(STALE)
    with other.connect() as outside:
        rows = outside.execute(text(IDENTITY[kind].format(backend=backend))).all()
    return [tuple(map(str, row)) for row in rows], sees
