"""Two correct Sessions read a balance of 100, both add 10, both commit: 120, 110, or an error?

Each has its own Session, thread and connection. Both have read before either writes, and both have written before
either commits, except where a lock keeps one of them waiting; that the server itself is asked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from lab.scenes.lost_stage import Account, Actor, Base, Pause, Versioned, each, engine_at, meet, observer
from recipes.retry_transaction import retry

Read = Callable[[Session], Any]
Write = Callable[[Session, Any], Any]
NAIVE = "x.balance += 10"
IN_TURN = "one after the other"
SCOPED = "scoped_session"
EXPIRED = "expire_all() before it adds"
REFRESHED = "refresh() before it adds"
EXPRESSION = "update().values(balance + 10)"
ATTRIBUTE = "x.balance = Account.balance + 10"
LOCKED = "with_for_update() on the first read"
HELD = "with_for_update() on a loaded object"
POPULATED = "the same with populate_existing"
VERSION = "version_id_col"
VERSION_AGAIN = "version_id_col, retry_transaction"
AGAIN = "x.balance += 10, retry_transaction"
THE_ACCOUNT = select(Account).where(Account.id == 1)


def _get(session: Session) -> Account:
    return session.get_one(Account, 1)


def _add(session: Session, account: Any) -> None:
    account.balance += 10


def _attribute(session: Session, account: Account) -> None:
    account.balance = Account.balance + 10


def _expression(session: Session, nothing: object) -> None:
    session.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 10))


def _lock(session: Session, account: Account, **options: object) -> None:
    # The same object comes back; what it holds depends on the options.
    _add(session, session.scalars(THE_ACCOUNT.with_for_update(), execution_options=options).one())


def _expire(session: Session, account: Account) -> None:
    session.expire_all()
    _add(session, account)


def _refresh(session: Session, account: Account) -> None:
    session.refresh(account)
    _add(session, account)


@dataclass(frozen=True)
class Way:
    """A way to add 10: what it reads, what it writes, and what it does again."""

    read: Read = _get
    write: Write = _add
    entity: type[Base] = Account
    retried: bool = False
    also: tuple[type[Exception], ...] = ()
    scoped: bool = False
    pauses: int = 2


WAYS = {
    NAIVE: Way(),
    IN_TURN: Way(pauses=0),
    SCOPED: Way(scoped=True),
    EXPIRED: Way(write=_expire),
    REFRESHED: Way(write=_refresh),
    EXPRESSION: Way(read=lambda session: None, write=_expression),
    ATTRIBUTE: Way(write=_attribute),
    LOCKED: Way(read=lambda session: session.get_one(Account, 1, with_for_update=True)),
    HELD: Way(write=_lock),
    POPULATED: Way(write=functools.partial(_lock, populate_existing=True)),
    VERSION: Way(read=lambda session: session.get_one(Versioned, 1), entity=Versioned),
    VERSION_AGAIN: Way(
        read=lambda session: session.get_one(Versioned, 1), entity=Versioned, retried=True, also=(StaleDataError,)
    ),
    AGAIN: Way(retried=True),
}


def main(engine: Mapping[str, Any], plays: Mapping[str, Sequence[str]], trials: int) -> dict[str, Any]:
    """Play ways to add 10, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        plays: the names of ways by isolation, as :func:`lab.scenes.lost_stage.engine_at` takes it.

    Returns:
        By isolation and way a list of trials: the ``balance`` in the end; ``acknowledged``, how many of the two were
        told that their 10 are committed; ``attempts``, how many transactions that took; ``messages``; and ``outcome``:
        "right", "lost" where the balance lacks what was acknowledged, or "error".
    """
    plain = engine_at(engine, "the driver's own")
    Base.metadata.create_all(plain)
    found: dict[str, Any] = {}
    try:
        for isolation, names in plays.items():
            made = engine_at(engine, isolation)
            waits = observer(engine, isolation)
            found[isolation] = {name: [_play(made, plain, waits, WAYS[name]) for _ in range(trials)] for name in names}
            made.dispose()
        return found
    finally:
        Base.metadata.drop_all(plain)


def _play(engine: Engine, plain: Engine, waits: Callable[[Actor, int], bool], way: Way) -> dict[str, Any]:
    with Session(plain) as session, session.begin():
        session.add(way.entity(id=1, balance=100))
    attempts: list[Session] = []

    def step(pause: Pause) -> None:
        # Only the first attempt meets the other's; what is done again runs free.
        pauses = [pause] * way.pauses

        def work(session: Session) -> None:
            attempts.append(session)
            first = [pauses.pop() for _ in range(len(pauses))]
            seen = way.read(session)
            each(first[:1])
            way.write(session, seen)
            session.flush()
            each(first[1:])

        _commit(sessionmaker(engine), work, way)

    actors = meet([step, step], way.pauses, waits)
    with Session(plain) as session, session.begin():
        account = session.get_one(way.entity, 1)
        balance = account.balance
        session.delete(account)
    messages = [actor.problem for actor in actors if actor.problem]
    acknowledged = 2 - len(messages)
    outcome = "lost" if balance != 100 + 10 * acknowledged else "error" if messages else "right"
    found = {"outcome": outcome, "balance": balance, "acknowledged": acknowledged}
    return {**found, "attempts": len(attempts), "messages": messages}


def _commit(make_session: sessionmaker[Session], work: Callable[[Session], None], way: Way) -> None:
    if way.retried:
        retry(make_session, work, also=way.also)
    elif way.scoped:
        registry = scoped_session(make_session)
        try:
            work(registry())
            registry.commit()
        finally:
            registry.remove()
    else:
        with make_session.begin() as session:
            work(session)
