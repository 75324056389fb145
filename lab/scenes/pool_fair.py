"""A waiter in the pool's queue, and a thread that gives its connection back and takes it again: who gets it?

CPython lets the thread that is running go on for ``sys.getswitchinterval()``, 5 ms by default, unless it waits for
something. From the return of a connection to the next checkout a tight loop waits for nothing. Here the interval is
so long that it makes no difference how busy the machine is.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from lab.pools import waiting
from lab.process import wait_until

ONE = text("select 1")
TURNS = 100


def main(engine: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], loop: bool) -> list[dict[str, Any]]:
    """In each of *cells*, have one client ask :data:`TURNS` times, each time on a new Session, while another waits to
    ask once.

    Args:
        engine: arguments of ``create_engine``, or of ``create_async_engine`` if *loop*.

    Returns:
        Of each cell ``passed``, how often the other client's turn was passed over after it had begun to wait.
    """
    return [_play(engine, loop, **cell) for cell in cells]


def _play(engine: Mapping[str, Any], loop: bool, way: str, lifo: bool = False, interval: float = 60) -> dict[str, Any]:
    """One cell.

    Args:
        way: "pool" (both go to the pool), "queue" (as many threads, or a semaphore for as many tasks, as connections).
        lifo: the pool's ``pool_use_lifo``.
        interval: what ``sys.setswitchinterval`` is given, in seconds.
    """
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 60, "pool_use_lifo": lifo}
    if loop:
        return asyncio.run(_tasks(create_async_engine(**engine, **options), way))
    made = create_engine(**engine, **options)
    sys.setswitchinterval(interval)
    try:
        return {"pool": _threads, "queue": _queue}[way](made)
    finally:
        made.dispose()


def _threads(engine: Engine) -> dict[str, Any]:
    served = threading.Event()
    passed = []

    def waiter() -> None:
        with Session(engine) as session:
            session.scalar(ONE)
            served.set()

    session = Session(engine)
    session.scalar(ONE)
    other = threading.Thread(target=waiter)
    other.start()
    wait_until(lambda: waiting(engine) == 1, "the other thread waits")
    for _ in range(TURNS):
        session.close()
        session = Session(engine)
        session.scalar(ONE)
        passed.append(not served.is_set())
    session.close()
    other.join()
    return {"passed": passed.count(True), "turns": TURNS}


def _queue(engine: Engine) -> dict[str, Any]:
    order: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def ask(who: str) -> None:
        with Session(engine) as session:
            session.scalar(ONE)
            order.append(who)

    def first() -> None:
        with Session(engine) as session:
            session.scalar(ONE)
            begun.set()
            go.wait(60)

    with ThreadPoolExecutor(1) as workers:
        workers.submit(first)
        begun.wait(60)
        jobs = [workers.submit(ask, "other")]
        go.set()
        for _ in range(TURNS):
            # A tight loop: the next is asked for as soon as the last has come.
            jobs.append(workers.submit(ask, "loop"))
            jobs[-1].result()
    return {"passed": order.index("other"), "turns": TURNS}


async def _tasks(engine: AsyncEngine, way: str) -> dict[str, Any]:
    turn = asyncio.Semaphore(1 if way == "queue" else 2)
    order: list[str] = []
    other: asyncio.Task | None = None

    async def ask(who: str) -> None:
        async with turn, AsyncSession(engine) as session:
            await session.scalar(ONE)
            order.append(who)

    async def one() -> None:
        await ask("other")

    async with turn, AsyncSession(engine) as session:
        await session.scalar(ONE)
        other = asyncio.create_task(one())
        while not (engine.pool._pool._queue._getters or turn._waiters):  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
    for _ in range(TURNS):
        await ask("loop")
    await other
    await engine.dispose()
    return {"passed": order.index("other"), "turns": TURNS}
