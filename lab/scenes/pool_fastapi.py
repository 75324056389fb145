"""Requests that come at once, a pool and a thread limiter: do all get their answer, or does everybody wait?

The first queries wait at a gate until every request has come. From there on the order is that of the limiter's queue,
first come, first served. A standstill is seen, not timed: every thread that the limiter has waits in the pool's queue,
every connection is with a request that waits for a thread, and nothing changes for a second. Then the limiter gets one
thread more, until it moves.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from lab.apps.pool_fastapi import Gate, build, build_async
from lab.drivers import spoken
from lab.pools import waiting
from lab.process import LabError

STILL, DEADLINE = 1.0, 40.0
SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "query_string": b"",
    "root_path": "",
    "headers": [],
}


def main(engine: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], loop: bool = False) -> dict[str, Any]:
    """Play each of *cells*: ``threads``, ``connections``, ``requests``, ``shape``, ``remedy``, ``timeout``.

    Args:
        engine: arguments of ``create_engine``, or of ``create_async_engine`` if *loop*.

    Returns:
        ``cells``: of each whether it ``stands`` still, how many ``held`` connections and ``waited`` for one then,
        ``right`` answers, and ``messages`` of the others; ``versions``.
    """
    play = _play_async if loop else _play
    names = ("FastAPI", "Starlette", "anyio")
    return {
        "cells": [asyncio.run(play(engine, **cell)) for cell in cells],
        "versions": {name: version(name.lower()) for name in names},
    }


async def _play(
    arguments: Mapping[str, Any],
    threads: int,
    connections: int,
    requests: int,
    shape: str,
    remedy: str = "",
    timeout: float = 60,
) -> dict[str, Any]:
    limiter = anyio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = threads
    engine = create_engine(**arguments, pool_size=connections, max_overflow=0, pool_timeout=timeout)
    returned: list[int] = []
    event.listen(engine, "checkin", lambda *_: returned.append(1))
    gate = Gate()
    app = build(engine, shape, remedy, gate, connections)
    answers: list[str] = []
    tasks = [asyncio.ensure_future(_ask(app, answers)) for _ in range(requests)]
    await _all_have_come(engine, gate, limiter, requests, threads, connections, remedy)
    gate.open.set()
    stands = {"stands": False, "held": 0, "waited": 0}
    since, before = time.monotonic(), None
    deadline = since + DEADLINE
    while len(answers) < requests:
        if time.monotonic() > deadline:
            raise LabError(f"no end: {len(answers)} of {requests} answers")
        now = (len(answers), len(returned), waiting(engine), engine.pool.checkedout())
        if now != before:
            since, before = time.monotonic(), now
        elif now[2:] == (limiter.total_tokens, connections) and time.monotonic() - since > STILL:
            if not stands["stands"]:
                stands = {"stands": True, "held": engine.pool.checkedout(), "waited": waiting(engine)}
            # What it was waiting for.
            limiter.total_tokens += 1
            since = time.monotonic()
        await asyncio.sleep(0.005)
    await asyncio.gather(*tasks)
    engine.dispose()
    wrong = [answer for answer in answers if answer]
    told = {"right": len(answers) - len(wrong), "messages": sorted(set(wrong)), "errors": len(wrong)}
    return {**stands, **told, "threads needed": limiter.total_tokens}


async def _all_have_come(
    engine: Engine, gate: Gate, limiter: Any, requests: int, threads: int, connections: int, remedy: str
) -> None:
    # Who is kept from the pool by a semaphore holds no thread, and cannot be counted there.
    admitted = min(requests, connections) if remedy in ("max_concurrency", "a semaphore around the application") else 0
    expected = admitted or requests
    deadline = time.monotonic() + DEADLINE
    while True:
        seen = limiter.statistics()
        first = min(threads, expected)
        busy = engine.pool.checkedout() + waiting(engine) >= first
        if seen.borrowed_tokens + seen.tasks_waiting == expected and busy:
            return
        if time.monotonic() > deadline:
            raise LabError(f"not all requests came: {seen}")
        await asyncio.sleep(0.005)


async def _play_async(arguments: Mapping[str, Any], connections: int, requests: int, **_: Any) -> dict[str, Any]:
    engine = create_async_engine(**arguments, pool_size=connections, max_overflow=0, pool_timeout=60)
    answers: list[str] = []
    app = build_async(engine)
    await asyncio.gather(*(_ask(app, answers) for _ in range(requests)))
    await engine.dispose()
    wrong = [answer for answer in answers if answer]
    right = len(answers) - len(wrong)
    return {"stands": False, "held": 0, "waited": 0, "right": right, "messages": wrong, "errors": len(wrong)}


async def _ask(app: Any, answers: list[str]) -> None:
    """Serve one request; note nothing for the right answer, and for another what went wrong."""
    got = {"status": 0, "body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        got["status"] = message.get("status", got["status"])
        got["body"] += message.get("body", b"")

    try:
        await app(dict(SCOPE), receive, send)
    except Exception as problem:
        answers.append(spoken(problem))
    else:
        answers.append("" if got == {"status": 200, "body": b'{"value":1}'} else f"{got['status']}: {got['body']!r}")
