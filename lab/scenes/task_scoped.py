"""Ten tasks and a registry of Sessions that goes by thread or by task, emptied by each or by nobody; and an update."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine

from lab.scenes.task_common import Account, Truth, answer, error, question

TASKS = 10
BY_THREAD, BY_TASK = "async_scoped_session, by thread", "async_scoped_session, by task"


def main(engine: Mapping[str, Any], database: str, trials: int) -> dict[str, Any]:
    """Ten tasks with a registry; then A updates and waits while B does its work and is done, and A commits.

    Args:
        engine: arguments of ``create_async_engine``.

    Returns:
        By what the registry goes by, and whether each task calls ``remove()``, a list of trials: ``sessions``, how many
        the ten had; after a collection ``registry``, its length, ``out``, the connections checked out, and ``tasks``,
        how many of the ten still exist; ``next``, what a task gets that comes then, of a pool of ten; of A what it was
        ``told``, and what is ``stored``.
    """
    ways = {
        f"{BY_THREAD}, remove()": (BY_THREAD, True),
        f"{BY_TASK}, remove()": (BY_TASK, True),
        BY_TASK: (BY_TASK, False),
    }
    return {way: [asyncio.run(_scoped(engine, database, *how)) for _ in range(trials)] for way, how in ways.items()}


async def _scoped(arguments: Mapping[str, Any], database: str, scope: str, removed: bool) -> dict[str, Any]:
    engine = create_async_engine(**arguments, pool_size=5, max_overflow=5, pool_timeout=0.2)
    scopefunc = asyncio.current_task if scope == BY_TASK else threading.get_ident
    registry = async_scoped_session(async_sessionmaker(engine), scopefunc=scopefunc)
    truth = Truth(arguments, database)
    truth.rewind()
    sessions, met = set(), asyncio.Barrier(TASKS)
    statement, asked = question(database)

    async def ask() -> None:
        sessions.add(id(registry()))
        await met.wait()
        if scope == BY_TASK:
            await registry.execute(statement, asked)
        if removed:
            await registry.remove()

    tasks = [asyncio.create_task(ask()) for _ in range(TASKS)]
    await asyncio.wait(tasks)
    for task in tasks:
        task.result()
    alive = weakref.WeakSet(tasks)
    # The name of the loop's variable holds one as well.
    del task
    tasks.clear()
    gc.collect()
    kept = {"registry": len(registry.registry.registry), "tasks": len(alive)}
    out = engine.pool.checkedout()
    try:
        async with AsyncSession(engine) as session:
            following = answer((await session.execute(statement, asked)).one(), asked)
    except SQLAlchemyError as problem:
        following = error(problem)
    lost = await _remove(registry, truth) if removed else {}
    await engine.dispose()
    return {"sessions": len(sessions), **kept, "out": out, "next": following, **lost}


async def _remove(registry: async_scoped_session, truth: Truth) -> dict[str, Any]:
    updated, removed = asyncio.Event(), asyncio.Event()

    async def first() -> str:
        await registry.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 50))
        updated.set()
        await removed.wait()
        await registry.commit()
        await registry.remove()
        return "OK"

    async def other() -> None:
        await updated.wait()
        await registry.execute(select(Account.balance).where(Account.id == 2))
        await registry.remove()
        removed.set()

    told, _ = await asyncio.gather(asyncio.create_task(first()), asyncio.create_task(other()))
    return {"told": told, "stored": truth.balance()}
