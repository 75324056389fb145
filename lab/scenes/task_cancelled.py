"""A task is cancelled while the database's answer is on its way: what does the pool get back, and who gets the answer?

The answer is kept back by a relay. Once it has arrived there the server has done its part, and the task waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from sqlalchemy import make_url, update
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from lab.scenes.task_common import Account, Truth, answer, error, question, same, words
from lab.scenes.task_relay import Relay
from recipes.task_session import run_in_session

CONNECT, PING, QUERY, BETWEEN = "in connect()", "in the pre-ping", "in a query", "between two queries"
COMMIT, ROLLBACK = "in commit()", "in the rollback of close()"
MOMENTS = (CONNECT, PING, QUERY, BETWEEN, COMMIT, ROLLBACK)
WITH, KEPT, RECIPE = "async with", "not closed", "recipe task_session"
ONCE, AGAIN = "once", "again in every turn of the loop"
# What is done to a task that is well ended is done to the others too, and more.
HOWS = {WITH: (ONCE, AGAIN), KEPT: (ONCE,), RECIPE: (AGAIN,)}
NEXT = 4

kept: list[AsyncSession] = []


class Refused(Exception):
    """What ends a task that is to be rolled back."""


def main(engine: Mapping[str, Any], database: str, pre_ping: bool, ways: list[str]) -> dict[str, Any]:
    """Play each moment in each of the ways.

    Args:
        engine: arguments of ``create_async_engine``.
        pre_ping: what the engine is told.

    Returns:
        By "way, how" and moment what :func:`_play` tells.
    """
    gc.disable()
    logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())
    moments = [moment for moment in MOMENTS if pre_ping or moment != PING]
    return {
        f"{way}, {how}": {at: asyncio.run(_play(engine, database, pre_ping, way, how, at)) for at in moments}
        for way in ways
        for how in HOWS[way]
    }


async def _play(
    arguments: Mapping[str, Any], database: str, pre_ping: bool, way: str, how: str, moment: str
) -> dict[str, Any]:
    """How the task ended (``told``), ``out`` of the pool then, the ``next`` answers, what is ``stored``.

    Of the first of the next, ``reused``: whether it is by the connection that the cancelled task had. ``warned``: what
    was said when what had been left was collected.
    """
    truth = Truth(arguments, database)
    truth.rewind()
    url = make_url(arguments["url"])
    async with Relay(url.port) as relay:
        through = {**arguments, "url": url.set(port=relay.port)}
        engine = create_async_engine(**through, pool_pre_ping=pre_ping, pool_size=1, max_overflow=0, pool_timeout=0.5)
        make_session = async_sessionmaker(engine)
        before = await _ask(make_session, database)
        if moment == CONNECT:
            await engine.dispose()
        told = await _cancel(make_session, relay, way, how, moment, database)
        following = [await _ask(make_session, database) for _ in range(NEXT)]
        # A close that was shielded may still go on when its task has ended, but not for longer than the next wait.
        out = engine.pool.checkedout()
        stored = truth.balance()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            kept.clear()
            gc.collect()
        with contextlib.suppress(Exception):
            await engine.dispose()
    reused = following[0].get("backend") == before["backend"]
    said = sorted({same(str(each.message)) for each in warned if "garbage" in str(each.message)})
    return {"told": told, "out": out, "next": following, "stored": stored, "reused": reused, "warned": said}


async def _cancel(make_session: Any, relay: Relay, way: str, how: str, moment: str, database: str) -> str:
    statement, asked = question(database)

    async def reached(which: str) -> None:
        if which == moment:
            relay.hold()

    async def work(session: AsyncSession) -> None:
        await reached(CONNECT)
        await reached(PING)
        await session.execute(update(Account).where(Account.id == 1).values(balance=150))
        if moment == BETWEEN:
            relay.arrived.set()
            await asyncio.Event().wait()
        await reached(QUERY)
        await session.execute(statement, asked)
        await reached(ROLLBACK)
        if moment == ROLLBACK:
            raise Refused
        await reached(COMMIT)

    async def job() -> None:
        if way == RECIPE:
            await run_in_session(make_session, work)
        elif way == KEPT:
            kept.append(make_session())
            await work(kept[-1])
            await kept[-1].commit()
        else:
            async with make_session() as session:
                await work(session)
                await session.commit()

    relay.arrived.clear()
    task = asyncio.create_task(job())
    arrived = asyncio.create_task(relay.arrived.wait())
    await asyncio.wait([arrived, task], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        arrived.cancel()
        relay.release()
        return f"was done before: {words(task.exception())}" if task.exception() else "was done before"
    task.cancel()
    # It is delivered in the loop's next turn; the answer comes after that.
    for _ in range(5):
        await asyncio.sleep(0)
        if how == AGAIN:
            task.cancel()
    relay.release()
    while not task.done():
        await asyncio.sleep(0)
        if how == AGAIN:
            task.cancel()
    if task.cancelled():
        return "cancelled"
    return words(task.exception()) if task.exception() else "went on"


async def _ask(make_session: Any, database: str) -> dict[str, Any]:
    statement, asked = question(database)
    try:
        async with make_session() as session:
            return answer((await session.execute(statement, asked)).one(), asked)
    except Exception as problem:
        return error(problem)
