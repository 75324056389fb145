"""Processes, each with engines of its own, that use every connection that their pools may open."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from lab.drivers import spoken
from lab.process import wait_until
from recipes.pool_budget import PoolBudgetExceeded, check

ONE = text("select 1")
CLIENTS = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and pid <> pg_backend_pid()",
    "mysql": "select count(*) from information_schema.processlist where host like '%:%' and id <> connection_id()",
}


def main(own: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """In each of *cells*, let the processes take one connection each in turn, until all have what their pools allow.

    In turn, because a server that is full counts the connection that it refuses, too, for a moment.

    Args:
        own: arguments of ``create_engine`` for an account that sees all clients.
        cells: each with ``engine``, arguments of ``create_engine``; the number of ``workers``; how many ``engines``
            each has, with ``size`` and ``overflow``, or, if ``null``, with a NullPool of which it uses as many;
            ``others``, the connections that somebody else holds meanwhile.

    Returns:
        Of each cell the ``right`` connections, the ``errors``, and their ``messages``; and whether the recipe
        pool_budget ``passes`` it beforehand.
    """
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        pipes = []
        for _ in range(max(cell["workers"] for cell in cells)):
            mine, its = context.Pipe()
            process = context.Process(target=_worker, args=(its,))
            process.start()
            stack.callback(process.join)
            stack.callback(mine.send, None)
            pipes.append(mine)
        return [_play(own, pipes[: cell["workers"]], **cell) for cell in cells]


def _play(
    own: Mapping[str, Any],
    pipes: Sequence[Any],
    engine: Mapping[str, Any],
    workers: int,
    engines: int,
    size: int,
    overflow: int,
    others: int,
    null: bool = False,
) -> dict[str, Any]:
    nobody_is_there(own)
    options = {} if null else {"pool_size": size, "max_overflow": overflow, "pool_timeout": 1}
    passes = _passes(engine, options, engines, workers=workers, threads=size + overflow, others=others)
    nobody_is_there(own)
    with contextlib.ExitStack() as stack:
        for _ in range(others):
            other = create_engine(**engine, poolclass=NullPool)
            stack.enter_context(other.connect()).execute(ONE)
        for pipe in pipes:
            pipe.send([dict(engine), options, engines])
        answers = []
        for turn in range(engines * (size + overflow)):
            for pipe in pipes:
                pipe.send(turn % engines)
                answers.append(pipe.recv())
        for pipe in pipes:
            pipe.send("end")
            pipe.recv()
    wrong = [answer for answer in answers if answer]
    told = {"right": answers.count(""), "errors": len(wrong), "messages": sorted(set(wrong))}
    return {**told, "passes": passes}


def _passes(arguments: Mapping[str, Any], options: Mapping[str, Any], engines: int, **asked: int) -> bool:
    made = [create_engine(**arguments, **(options or {"poolclass": NullPool})) for _ in range(engines)]
    try:
        check(*made, **asked)
    except PoolBudgetExceeded:
        return False
    finally:
        for engine in made:
            engine.dispose()
    return True


def nobody_is_there(own: Mapping[str, Any]) -> None:
    """Wait until the server has no other client: it lets go of one after that one has gone."""
    engine = create_engine(**own, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        question = text(CLIENTS[engine.dialect.name])
        wait_until(lambda: not connection.scalar(question), "the server has no other client")
    # Its own is gone, too, before anybody counts.
    engine.dispose()


def _worker(pipe: Any) -> None:
    for arguments, options, engines in iter(pipe.recv, None):
        how = options or {"poolclass": NullPool}
        made, kept = [create_engine(**arguments, **how) for _ in range(engines)], []
        for number in iter(pipe.recv, "end"):
            session = Session(made[number])
            kept.append(session)
            try:
                session.scalar(ONE)
            except Exception as problem:
                pipe.send(spoken(problem))
            else:
                pipe.send("")
        for session in kept:
            session.close()
        for engine in made:
            engine.dispose()
        pipe.send("ended")
