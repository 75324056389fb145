"""Two accounts may not hold less than 100 together; two Sessions see 200, and each takes 100 from another account."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session, sessionmaker

from lab.scenes.lost_stage import Account, Actor, Base, Pause, Versioned, each, engine_at, meet, observer
from recipes.retry_transaction import retry

NAIVE = "both are read"
VERSION = "version_id_col"
LOCKED = "with_for_update() on both"
AGAIN = "both are read, retry_transaction"


def main(engine: Mapping[str, Any], plays: Mapping[str, Sequence[str]], trials: int) -> dict[str, Any]:
    """Play ways to take 100, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        plays: the names of ways by isolation, as :func:`lab.scenes.lost_stage.engine_at` takes it.

    Returns:
        By isolation and way a list of trials: ``left``, what both accounts hold in the end; ``took``, how many of the
        two have taken 100; ``declined``, how many saw that they may not; ``messages`` of the others.
    """
    plain = engine_at(engine, "the driver's own")
    Base.metadata.create_all(plain)
    found: dict[str, Any] = {}
    try:
        for isolation, names in plays.items():
            made = engine_at(engine, isolation)
            waits = observer(engine, isolation)
            found[isolation] = {name: [_play(made, plain, waits, name) for _ in range(trials)] for name in names}
            made.dispose()
        return found
    finally:
        Base.metadata.drop_all(plain)


def _play(engine: Engine, plain: Engine, waits: Callable[[Actor, int], bool], way: str) -> dict[str, Any]:
    entity = Versioned if way == VERSION else Account
    both = select(entity).order_by(entity.id)
    if way == LOCKED:
        both = both.with_for_update()
    with Session(plain) as session, session.begin():
        session.add_all([entity(id=0, balance=100), entity(id=1, balance=100)])
    make_session = sessionmaker(engine)

    def step(mine: int) -> Callable[[Pause], str]:
        def run(pause: Pause) -> str:
            pauses = [pause, pause]

            def work(session: Session) -> str:
                # Only the first attempt meets the other's; what is done again runs free.
                first = [pauses.pop() for _ in range(len(pauses))]
                accounts = session.scalars(both).all()
                allowed = sum(account.balance for account in accounts) >= 200
                each(first[:1])
                if allowed:
                    accounts[mine].balance -= 100
                session.flush()
                each(first[1:])
                return "took" if allowed else "declined"

            if way == AGAIN:
                return retry(make_session, work)
            with make_session.begin() as session:
                return work(session)

        return run

    actors = meet([step(0), step(1)], 2, waits)
    with Session(plain) as session, session.begin():
        left = session.scalar(select(func.sum(entity.balance)))
        for account in session.scalars(select(entity)):
            session.delete(account)
    told = [actor.result for actor in actors]
    messages = [actor.problem for actor in actors if actor.problem]
    return {"left": int(left), "took": told.count("took"), "declined": told.count("declined"), "messages": messages}
