"""Three jobs, each in an event loop of its own by ``asyncio.run``, with one engine for all or with a remedy."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import io
import logging
import os
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from sqlalchemy import NullPool, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lab import procfs
from lab.process import wait_until
from lab.scenes.task_common import Truth, answer, error, question, same, words

JOBS = 3
PLAIN, PING, NULL = "none", "pool_pre_ping", "NullPool"
AT_END, AT_START = "await dispose() at the end of each", "await dispose() at the start of each"
CLOSE_FALSE = "dispose(close=False) at the start of each"
EACH, ONE_LOOP = "an engine for each", "one loop for all"
WAYS = (PLAIN, PING, NULL, AT_END, AT_START, CLOSE_FALSE, EACH, ONE_LOOP)


MOMENTS = {"one task": (1, {}), "three tasks, a pool of one": (3, {"pool_size": 1, "max_overflow": 0})}


def main(engine: Mapping[str, Any], database: str, ways: list[str]) -> dict[str, Any]:
    """Run the jobs in each of the ways, with one task, and with more tasks than connections.

    Args:
        engine: arguments of ``create_async_engine``.
        ways: what is done about it.

    Returns:
        By way and moment: ``jobs``, by job what its tasks got; ``said``, what was logged, warned of or printed
        meanwhile; ``left``, the connections that the server still has at the end; ``opened``, how many backends there
        were.
    """
    gc.disable()
    truth = Truth(engine, database)
    return {way: {moment: _play(engine, truth, way, *MOMENTS[moment]) for moment in MOMENTS} for way in ways}


def _play(arguments: Mapping[str, Any], truth: Truth, way: str, tasks: int, pool: Mapping[str, Any]) -> dict[str, Any]:
    options = {PING: {**pool, "pool_pre_ping": True}, NULL: {"poolclass": NullPool}}.get(way, pool)
    make = functools.partial(create_async_engine, **arguments, **options)
    shared = make()
    with Said() as said:
        jobs = _three(shared, make, truth.database, way, tasks)
        gc.collect()
    left = _left(truth, make_url(arguments["url"]).port)
    with Said():
        # What this leaves is not to be found by the next.
        del shared
        gc.collect()
    backends = {each["backend"] for job in jobs for each in job if "backend" in each}
    return {"jobs": jobs, "said": said.lines(), "left": left, "opened": len(backends)}


def _three(shared: AsyncEngine, make: Callable[[], AsyncEngine], database: str, way: str, tasks: int) -> list[Any]:
    async def job() -> list[dict[str, Any]]:
        async with _engine(shared, make, way) as engine:
            return await asyncio.gather(*(_ask(engine, database) for _ in range(tasks)))

    if way != ONE_LOOP:
        return [_outcome(asyncio.run, job) for _ in range(JOBS)]
    with asyncio.Runner() as runner:
        jobs = [_outcome(runner.run, job) for _ in range(JOBS)]
        runner.run(shared.dispose())
    return jobs


def _outcome(run: Callable[[Any], Any], job: Callable[[], Any]) -> list[dict[str, Any]]:
    try:
        return run(job())
    except Exception as problem:
        return [error(problem)]


@contextlib.asynccontextmanager
async def _engine(shared: AsyncEngine, make: Callable[[], AsyncEngine], way: str) -> AsyncIterator[AsyncEngine]:
    if way == CLOSE_FALSE:
        await shared.dispose(close=False)
    elif way == AT_START:
        await shared.dispose()
    engine = make() if way == EACH else shared
    try:
        yield engine
    finally:
        if way in (AT_END, EACH):
            await engine.dispose()


async def _ask(engine: AsyncEngine, database: str) -> dict[str, Any]:
    statement, asked = question(database)
    try:
        async with engine.connect() as connection:
            return answer((await connection.execute(statement, asked)).one(), asked)
    except Exception as problem:
        return error(problem)


def _left(truth: Truth, port: int) -> int:
    """How many connections the server has, once it has heard of all that this process did to its own."""
    inodes = {row.inode for row in procfs.tcp() if row.remote == port}
    mine = len(inodes & set(procfs.sockets(os.getpid()).values()))
    wait_until(lambda: truth.connections() == mine, "the server knows which connections are closed")
    return mine


class Said(contextlib.AbstractContextManager["Said"]):
    """Whatever is logged, warned of, raised where nobody can catch it, or printed to stderr within the block."""

    def __enter__(self) -> Said:
        self._words: list[str] = []
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, *_: self._words.append(f"{category.__name__}: {message}")
        self._printed = io.StringIO()
        self._stack.enter_context(contextlib.redirect_stderr(self._printed))
        handler = logging.Handler(logging.WARNING)
        handler.emit = self._logged
        logging.getLogger().addHandler(handler)
        self._stack.callback(logging.getLogger().removeHandler, handler)
        hook = sys.unraisablehook
        self._stack.callback(setattr, sys, "unraisablehook", hook)
        sys.unraisablehook = lambda seen: self._words.append(f"ignored: {words(seen.exc_value)}")
        return self

    def _logged(self, record: logging.LogRecord) -> None:
        why = f": {words(record.exc_info[1])}" if record.exc_info else ""
        self._words.append(f"log of {record.name}: {record.getMessage()}{why}")

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def lines(self) -> list[str]:
        """Each thing that was said, once."""
        return sorted({same(line.split("\n")[0]) for line in [*self._words, *self._printed.getvalue().splitlines()]})
