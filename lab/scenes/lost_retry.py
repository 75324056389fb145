"""Two transactions of which the database ends one: with retry_transaction and without, are both done?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session, sessionmaker

from lab.scenes.lost_stage import Account, Base, Pause, engine_at, meet, observer
from recipes.retry_transaction import retry

DEADLOCK = "deadlock"
IN_SAVEPOINT = "deadlock in a savepoint"
REFUSED = "what was read has changed"
Half = Callable[[Session], object]


def _adds(row: int, amount: int) -> Half:
    change = update(Account).where(Account.id == row).values(balance=Account.balance + amount)
    return lambda session: session.execute(change)


def _in_savepoint(half: Half) -> Half:
    def nested(session: Session) -> None:
        with session.begin_nested():
            half(session)

    return nested


def _reads(session: Session) -> None:
    session.info["accounts"] = [session.get_one(Account, row) for row in (1, 2)]


def _moves(amount: int) -> Half:
    def move(session: Session) -> None:
        one, two = session.info["accounts"]
        one.balance -= amount
        two.balance += amount
        session.flush()

    return move


# Both move money between two accounts: 10 from the first to the second, and 20 back. Each is two halves.
CASES: dict[str, list[tuple[Half, Half]]] = {
    DEADLOCK: [(_adds(1, -10), _adds(2, 10)), (_adds(2, -20), _adds(1, 20))],
    IN_SAVEPOINT: [(_adds(1, -10), _in_savepoint(_adds(2, 10))), (_adds(2, -20), _in_savepoint(_adds(1, 20)))],
    REFUSED: [(_reads, _moves(10)), (_reads, _moves(-20))],
}


def main(engine: Mapping[str, Any], plays: Mapping[str, str], trials: int) -> dict[str, Any]:
    """Play each case with a retry and without, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        plays: by case the isolation, as :func:`lab.scenes.lost_stage.engine_at` takes it.

    Returns:
        By case, and "retry" or "none", a list of trials: ``balances`` in the end; ``acknowledged``, how many of the two
        transactions were; ``attempts``, how often they were begun; ``messages``.
    """
    plain = engine_at(engine, "the driver's own")
    Base.metadata.create_all(plain)
    try:
        return {
            case: {
                name: [
                    _play(engine, isolation, sessionmaker(plain), CASES[case], name == "retry") for _ in range(trials)
                ]
                for name in ("none", "retry")
            }
            for case, isolation in plays.items()
        }
    finally:
        Base.metadata.drop_all(plain)


def _play(
    arguments: Mapping[str, Any], isolation: str, plain: sessionmaker, halves: Sequence[tuple[Half, Half]], again: bool
) -> dict[str, Any]:
    with plain.begin() as session:
        session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])
    engine = engine_at(arguments, isolation)
    make_session = sessionmaker(engine)
    attempts: list[object] = []

    def step(first: Half, second: Half) -> Callable[[Pause], None]:
        def run(pause: Pause) -> None:
            pauses = [pause]

            def work(session: Session) -> None:
                attempts.append(first)
                first(session)
                if pauses:
                    pauses.pop()()
                second(session)

            if again:
                retry(make_session, work)
            else:
                with make_session.begin() as session:
                    work(session)

        return run

    actors = meet([step(*both) for both in halves], 1, observer(arguments, isolation))
    engine.dispose()
    with plain.begin() as session:
        accounts = [session.get_one(Account, row) for row in (1, 2)]
        balances = [account.balance for account in accounts]
        for account in accounts:
            session.delete(account)
    messages = [actor.problem for actor in actors if actor.problem]
    found = {"balances": balances, "acknowledged": len(actors) - len(messages)}
    return {**found, "attempts": len(attempts), "messages": messages}
