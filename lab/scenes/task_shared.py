"""Ten tasks and their Sessions: one AsyncSession for all of them, or one for each; and what becomes of a write."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Mapping
from typing import Any

from sqlalchemy import NullPool, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from lab.scenes.task_common import Account, Truth, answer, error, question
from recipes.task_session import gather_in_sessions, run_in_session

TASKS = 10
ONE, IN_TURN, EACH, RECIPE = "one AsyncSession", "one AsyncSession, in turn", "one for each task", "recipe task_session"
DEFAULT, NULL = "5+10", "NullPool"


def main(engine: Mapping[str, Any], database: str, trials: int) -> dict[str, Any]:
    """Play, by scope and pool, ten tasks on a Session that is cold, on one that is connected, and an update.

    Args:
        engine: arguments of ``create_async_engine``.

    Returns:
        By "scope, pool" a list of trials: ``cold`` and ``warm``, the ``outcomes`` of the ten and by how many
        ``sessions`` and ``backends``; of the update, what its task was ``told``, and what is ``stored``.
    """
    gc.disable()
    return {
        f"{scope}, {pool}": [asyncio.run(_play(engine, database, scope, pool)) for _ in range(trials)]
        for scope in (ONE, IN_TURN, EACH, RECIPE)
        for pool in (DEFAULT, NULL)
    }


async def _play(arguments: Mapping[str, Any], database: str, scope: str, pool: str) -> dict[str, Any]:
    options = {"poolclass": NullPool} if pool == NULL else {}
    engine = create_async_engine(**arguments, **options)
    make_session = async_sessionmaker(engine)
    truth = Truth(arguments, database)
    truth.rewind()
    try:
        cold = await _ten(make_session, database, scope, warm=False)
        warm = await _ten(make_session, database, scope, warm=True)
        lost = await _update(make_session, truth, scope)
    finally:
        await engine.dispose()
    return {"cold": cold, "warm": warm, **lost}


async def _ten(make_session: Any, database: str, scope: str, *, warm: bool) -> dict[str, Any]:
    sessions = set()

    async def ask(session: AsyncSession, *_: object) -> dict[str, Any]:
        sessions.add(session)
        statement, asked = question(database)
        try:
            return answer((await session.execute(statement, asked)).one(), asked)
        except SQLAlchemyError as problem:
            return error(problem)

    async def alone() -> dict[str, Any]:
        async with make_session() as session:
            return await ask(session)

    if scope == RECIPE:
        told = await gather_in_sessions(make_session, ask, range(TASKS), at_most=TASKS)
    elif scope == EACH:
        told = await asyncio.gather(*(alone() for _ in range(TASKS)))
    else:
        async with make_session() as session:
            if warm:
                await session.connection()
            if scope == ONE:
                told = await asyncio.gather(*(ask(session) for _ in range(TASKS)))
            else:
                told = [await ask(session) for _ in range(TASKS)]
    backends = {each["backend"] for each in told if "backend" in each}
    return {"outcomes": told, "sessions": len(sessions), "backends": len(backends)}


async def _update(make_session: Any, truth: Truth, scope: str) -> dict[str, Any]:
    """A adds 50 and waits, B rolls its own work back, A commits."""
    updated, rolled_back = asyncio.Event(), asyncio.Event()

    async def pay_in(session: AsyncSession) -> None:
        await session.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 50))
        updated.set()
        await rolled_back.wait()

    async def give_up(session: AsyncSession) -> None:
        await updated.wait()
        await session.execute(select(Account.balance).where(Account.id == 2))
        await session.rollback()
        rolled_back.set()

    async def first(session: AsyncSession) -> str:
        await pay_in(session)
        await session.commit()
        return "OK"

    if scope == IN_TURN:
        # One after the other there is nothing to mix up: the second begins when the first has committed.
        rolled_back.set()
        async with make_session() as session:
            told = await first(session)
            await give_up(session)
    elif scope == RECIPE:
        await asyncio.gather(run_in_session(make_session, pay_in), run_in_session(make_session, give_up))
        told = "OK"
    else:
        async with contextlib.AsyncExitStack() as stack:
            mine = await stack.enter_async_context(make_session())
            other = mine if scope == ONE else await stack.enter_async_context(make_session())
            told, _ = await asyncio.gather(first(mine), give_up(other))
    return {"told": told, "stored": truth.balance()}
