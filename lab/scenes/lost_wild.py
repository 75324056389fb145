"""Threads add 1 to a balance again and again, each addition a transaction of a correct Session; nothing is arranged."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import event, func, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from lab.drivers import spoken
from lab.scenes.lost_stage import Account, Base, Versioned, engine_at
from recipes.retry_transaction import retry

NAIVE = "x.balance += 1"
EXPRESSION = "update().values(balance + 1)"
LOCKED = "with_for_update()"
AGAIN = "x.balance += 1, retry_transaction"
VERSION = "version_id_col, retry_transaction"
Add = Callable[[Session, int], object]


def _naive(session: Session, row: int) -> None:
    session.get_one(Account, row).balance += 1


def _expression(session: Session, row: int) -> None:
    session.execute(update(Account).where(Account.id == row).values(balance=Account.balance + 1))


def _locked(session: Session, row: int) -> None:
    session.get_one(Account, row, with_for_update=True).balance += 1


def _version(session: Session, row: int) -> None:
    session.get_one(Versioned, row).balance += 1


WAYS: dict[str, Add] = {
    NAIVE: _naive,
    EXPRESSION: _expression,
    LOCKED: _locked,
    AGAIN: _naive,
    VERSION: _version,
}


def main(
    engine: Mapping[str, Any], plays: Sequence[tuple[str, str, int]], threads: int, each: int, trials: int
) -> list[list[dict[str, Any]]]:
    """Let *threads* threads do *each* additions, *trials* times for each of *plays*.

    Args:
        engine: arguments of ``create_engine``.
        plays: a way, an isolation as :func:`lab.scenes.lost_stage.engine_at` takes it, and how many rows there are, of
            which each addition takes one by chance.

    Returns:
        A list of trials for each of *plays*: ``acknowledged`` additions, and of these the ``lost`` ones, which are not
        in the sum of all balances; ``refused``, those that raised in the end; per acknowledged one ``attempts`` and
        ``statements``; and ``messages`` of what was refused, with their counts.
    """
    return [[_play(engine, *one, threads, each) for _ in range(trials)] for one in plays]


def _play(arguments: Mapping[str, Any], way: str, isolation: str, rows: int, threads: int, each: int) -> dict[str, Any]:
    made = engine_at(arguments, isolation, pool_size=threads)
    entity = Versioned if way == VERSION else Account
    Base.metadata.create_all(made)
    make_session = sessionmaker(made)
    with make_session.begin() as session:
        session.add_all([entity(id=row, balance=0) for row in range(rows)])
    counts: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    guard = threading.Lock()
    together = threading.Barrier(threads)

    def count(name: str) -> None:
        with guard:
            counts[name] += 1

    event.listen(made, "before_cursor_execute", lambda *_: count("statements"))

    def add(row: int) -> None:
        def work(session: Session) -> None:
            count("attempts")
            WAYS[way](session, row)

        if way in (AGAIN, VERSION):
            retry(make_session, work, also=[StaleDataError])
        else:
            with make_session.begin() as session:
                work(session)

    def run(me: int) -> None:
        chance = random.Random(me)
        together.wait(60)
        for _ in range(each):
            try:
                add(chance.randrange(rows))
                count("acknowledged")
            except (DBAPIError, StaleDataError) as problem:
                count("refused")
                with guard:
                    messages[spoken(problem)] += 1

    crowd = [threading.Thread(target=run, args=(me,)) for me in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    seen = dict(counts)
    with make_session() as session:
        stored = session.scalar(select(func.sum(entity.balance)))
    Base.metadata.drop_all(made)
    made.dispose()
    done = seen.get("acknowledged", 0)
    per = {name: round(seen[name] / max(done, 1), 2) for name in ("attempts", "statements")}
    told = {"acknowledged": done, "lost": done - int(stored), "refused": seen.get("refused", 0)}
    return {**told, **per, "messages": messages}
