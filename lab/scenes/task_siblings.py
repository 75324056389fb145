"""One of two tasks fails at once, and the block of the Session that both were given ends, while the other connects."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from lab.scenes.task_common import question, words
from recipes.task_session import gather_in_sessions

Way = Callable[[Any, Any, Any], Awaitable[object]]


class Refused(Exception):
    """What the first task raises, and its caller should be told."""


async def _gather(make_session: Any, fails: Any, works: Any) -> None:
    async with make_session() as session:
        await asyncio.gather(fails(session), works(session))


async def _return_exceptions(make_session: Any, fails: Any, works: Any) -> None:
    async with make_session() as session:
        for told in await asyncio.gather(fails(session), works(session), return_exceptions=True):
            if isinstance(told, Exception):
                raise told


async def _group(make_session: Any, fails: Any, works: Any) -> None:
    async with make_session() as session, asyncio.TaskGroup() as group:
        group.create_task(fails(session))
        group.create_task(works(session))


async def _each(make_session: Any, fails: Any, works: Any) -> None:
    async def alone(work: Any) -> None:
        async with make_session() as session:
            await work(session)

    await asyncio.gather(alone(fails), alone(works))


async def _recipe(make_session: Any, fails: Any, works: Any) -> None:
    await gather_in_sessions(make_session, _work, [fails, works], at_most=2)


async def _work(session: AsyncSession, work: Any) -> None:
    await work(session)


WAYS: dict[str, Way] = {
    "gather()": _gather,
    "gather(return_exceptions=True)": _return_exceptions,
    "TaskGroup": _group,
    "a Session for each task": _each,
    "recipe task_session": _recipe,
}


def main(engine: Mapping[str, Any], database: str, trials: int) -> dict[str, Any]:
    """Play each of the ways *trials* times.

    Args:
        engine: arguments of ``create_async_engine``.

    Returns:
        By way a list of trials: ``told``, what the caller got; ``refused``, whether that is what the task raised;
        ``other``, what became of the other task; ``out``, the connections checked out when all have ended.
    """
    gc.disable()
    return {way: [asyncio.run(_play(engine, database, way)) for _ in range(trials)] for way in WAYS}


async def _play(arguments: Mapping[str, Any], database: str, way: str) -> dict[str, Any]:
    engine = create_async_engine(**arguments)
    others: list[asyncio.Task[Any]] = []
    statement, asked = question(database)

    async def fails(session: AsyncSession) -> None:
        # The other has begun to connect, which takes it several turns of the loop; the end of the block takes fewer.
        await asyncio.sleep(0)
        raise Refused("not today")

    async def works(session: AsyncSession) -> None:
        others.append(asyncio.current_task())
        await session.execute(statement, asked)

    told = await _told(WAYS[way](async_sessionmaker(engine), fails, works))
    await asyncio.wait(others)
    seen = {"told": told, "refused": "Refused: " in told, "other": _became(others[0]), "out": engine.pool.checkedout()}
    with contextlib.suppress(Exception):
        await engine.dispose()
    return seen


async def _told(work: Awaitable[object]) -> str:
    try:
        await work
    except ExceptionGroup as group:
        return "; ".join(map(words, group.exceptions))
    except Exception as problem:
        return words(problem)
    return "nothing"


def _became(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "cancelled"
    return words(task.exception()) if task.exception() else "went on"
