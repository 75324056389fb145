"""One function leaves its Session open, another does not, and a third times out: who is told of?"""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Mapping
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from lab.drivers import spoken
from recipes.leak_watch import LeakWatch

ONE = text("select 1")
OPTIONS = {"pool_size": 2, "max_overflow": 0, "pool_timeout": 0.2}


def main(engine: Mapping[str, Any], loop: bool, count: int) -> dict[str, list[dict[str, str]]]:
    """Play it *count* times on a pool of two, both of which the first function takes, with the recipe and without.

    Args:
        engine: arguments of ``create_engine``, or of ``create_async_engine`` if *loop*.

    Returns:
        For "none" and "recipe leak_watch" the ``message`` of the pool, and ``told``, that and what the recipe reports.
    """
    gc.disable()
    play = (lambda watched: asyncio.run(_play_async(engine, watched))) if loop else functools.partial(_play, engine)
    return {
        remedy: [play(watched) for _ in range(count)]
        for remedy, watched in {"none": False, "recipe leak_watch": True}.items()
    }


def _play(engine: Mapping[str, Any], watched: bool) -> dict[str, str]:
    made = create_engine(**engine, **OPTIONS)
    watch = LeakWatch(made, longer_than=60) if watched else None
    behaves(made)
    kept = [leaks(made), leaks(made)]
    message = ""
    try:
        behaves(made)
    except Exception as problem:
        message = spoken(problem)
    told = "\n".join([message, watch.report() if watch else ""])
    for session in kept:
        session.close()
    made.dispose()
    return {"message": message, "told": told}


def leaks(engine: Any) -> Session:
    session = Session(engine)
    session.scalar(ONE)
    return session


def behaves(engine: Any) -> None:
    with Session(engine) as session:
        session.scalar(ONE)


async def _play_async(arguments: Mapping[str, Any], watched: bool) -> dict[str, Any]:
    made = create_async_engine(**arguments, **OPTIONS)
    watch = LeakWatch(made, longer_than=60) if watched else None
    await behaves_async(made)
    kept = [await asyncio.create_task(leaks_async(made)) for _ in range(2)]
    message = ""
    try:
        await behaves_async(made)
    except Exception as problem:
        message = spoken(problem)
    told = "\n".join([message, watch.report() if watch else ""])
    for session in kept:
        await session.close()
    await made.dispose()
    return {"message": message, "told": told}


async def leaks_async(engine: AsyncEngine) -> AsyncSession:
    session = AsyncSession(engine)
    await session.scalar(ONE)
    return session


async def behaves_async(engine: AsyncEngine) -> None:
    async with AsyncSession(engine) as session:
        await session.scalar(ONE)
