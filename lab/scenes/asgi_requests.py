"""Requests to an ASGI application, fed by hand: the client leaves, and the request is cancelled, at an exact moment.

Each hazard is played on an engine of its own, with the garbage collector off: what is not given back by then is not
given back by the end of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import anyio.to_thread
from sqlalchemy import Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from starlette.middleware.base import BaseHTTPMiddleware

from lab.apps.asgi_app import build
from lab.apps.asgi_pages import DIRTY, OLD, Notes, fill
from lab.apps.asgi_ways import FASTAPI
from lab.drivers import spoken
from lab.process import LabError
from lab.scenes.asgi_client import HAZARDS, ONLY_FASTAPI, ONLY_IN_LOOP, Client, Hazard

DEADLINE = 5.0
# How long a request may take, once its client has gone, too. The query that is cancelled takes 20 seconds.
PATIENCE = 8.0
HUNG = f"no end within {PATIENCE:g} s"
# What other clients of the server have open, as it sees it itself.
OPEN = """select count(*) from pg_stat_activity
    where client_port > 0 and pid <> pg_backend_pid() and state <> 'idle'"""
# The query that is to be cancelled, once the server is at it.
SLEEPS = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
END = "select pg_terminate_backend(pid) from pg_stat_activity where client_port > 0 and pid <> pg_backend_pid()"


def main(
    engine: Mapping[str, Any], plain: Mapping[str, Any], loop: bool, remedies: Sequence[str], trials: int = 1
) -> dict[str, Any]:
    """Play all hazards with each of *remedies*; return what became of each, by remedy, once for each of *trials*.

    Args:
        engine: arguments of ``create_engine``, or of ``create_async_engine`` if *loop*.
        plain: those of an engine without a loop, on the same database, for the scene's own use.
    """
    own = create_engine(**plain, isolation_level="AUTOCOMMIT")
    fill(own)
    told = asyncio.run(_all(engine, own, loop, remedies, trials))
    return {"told": told, "versions": {name: version(name.lower()) for name in ("FastAPI", "Starlette")}}


async def _all(
    arguments: Mapping[str, Any], own: Engine, loop: bool, remedies: Sequence[str], trials: int
) -> dict[str, list[dict[str, Any]]]:
    # One thread serves all requests that need one, so that the next request meets what the last one left there.
    anyio.to_thread.current_default_thread_limiter().total_tokens = 1
    # What is there already is not looked at by the collections between the hazards.
    gc.freeze()
    told: dict[str, list[dict[str, Any]]] = {}
    for remedy in remedies:
        left_out = () if remedy in FASTAPI else ONLY_FASTAPI
        left_out += () if loop else ONLY_IN_LOOP
        rows = [row for row in HAZARDS if row not in left_out]
        told[remedy] = [{row: await _play(arguments, own, loop, remedy, row) for row in rows} for _ in range(trials)]
    return told


async def _play(arguments: Mapping[str, Any], own: Engine, loop: bool, remedy: str, row: str) -> dict[str, Any]:
    hazard = HAZARDS[row]
    own_dialect = own.dialect.name
    _ask(own, f"update page set body = '{OLD}'")
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()
    engine = _engine(arguments, loop)
    listener = event.listens_for(Session, "after_begin")(lambda session, *rest: sessions.add(session))
    notes = Notes()
    app = build(remedy, engine, notes)
    if hazard.under:
        app = BaseHTTPMiddleware(app, dispatch=_passes_on)
    gc.collect()
    gc.disable()
    try:
        client = Client(hazard)
        raised = await _serve(own, app, client, notes)
        if raised == HUNG:
            # What it waits for is ended by the server.
            _ask(own, END)
        await _settled(notes)
        out = engine.pool.checkedout()
        open_ = out if own_dialect == "sqlite" else await _still_open(own, wait=not out)
        following = Client(Hazard("next", method="POST"))
        refused = await _serve(own, app, following, notes)
        await _settled(notes)
        body = _ask(own, "select body from page")[0][0]
        gc.collect()
        await _settled(notes)
        found = {
            "out": out,
            "open": open_,
            "raised": raised,
            "got": client.body,
            "said": list(notes.said),
            "dirty": body == DIRTY,
        }
        found |= {"whole": client.done, "status": client.status, "refused": refused}
        found["collected"] = out and engine.pool.checkedout() < out
        return found | {"word": _word(hazard, found)}
    finally:
        gc.enable()
        event.remove(Session, "after_begin", listener)
        await _clean(sessions, engine, own, loop, notes)


def _word(hazard: Hazard, found: Mapping[str, Any]) -> str:
    """What became of the request: the worst that can be said of it."""
    if found["raised"] == HUNG:
        return "hung"
    if found["dirty"]:
        return "dirty"
    if hazard.body and not (found["got"] == hazard.body and found["whole"]):
        return "truncated"
    if found["out"] or found["open"]:
        return "leaked"
    if found["refused"]:
        return "error"
    # A client that has gone sees no error; who asks for the head alone has one in the server's log.
    return "error" if found["raised"] and (hazard.said or hazard.method == "HEAD") else "right"


async def _serve(own: Engine, app: Any, client: Client, notes: Notes) -> str:
    """Serve one request as a server does: in a task of its own. Returns the exception that came out, as text."""
    task = asyncio.ensure_future(app(client.scope, client.receive, client.send))
    if client.hazard.cancelled:
        in_query = client.hazard.path == "slow"
        await _until(lambda: task.done() or (_ask(own, SLEEPS)[0][0] if in_query else notes.said))
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        notes.gate.set()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    if not done:
        return HUNG
    if task.cancelled():
        return "asyncio.CancelledError"
    problem = task.exception()
    return spoken(problem) if problem else ""


async def _passes_on(request: Any, call_next: Any) -> Any:
    return await call_next(request)


async def _settled(notes: Notes) -> None:
    """Wait until nothing is left to be done: no task, nor one that a generator's end would start."""
    await _until(lambda: not notes.running)
    # The worker thread may just be dropping what it held of the request; this comes after that.
    await anyio.to_thread.run_sync(int)
    quiet = 0
    while quiet < 3:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, waiting = await asyncio.wait(others, timeout=DEADLINE)
            if waiting:
                raise LabError(f"the request has left tasks that do not end: {waiting}")
        quiet = 0 if others else quiet + 1
        await asyncio.sleep(0)


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            raise LabError("waited in vain within a request")
        await asyncio.sleep(0.002)


async def _still_open(own: Engine, wait: bool) -> int:
    """How many transactions the server still sees; with *wait* after a cancelled query has had time to end there."""
    deadline = time.monotonic() + (DEADLINE if wait else 0)
    while (found := _ask(own, OPEN)[0][0]) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return found


def _engine(arguments: Mapping[str, Any], loop: bool) -> Any:
    connect = dict(arguments.get("connect_args", {}))
    if make_url(arguments["url"]).get_backend_name() == "sqlite":
        connect["timeout"] = 0.2
    return (create_async_engine if loop else create_engine)(**{**arguments, "connect_args": connect})


def _ask(own: Engine, statement: str) -> list[Any]:
    with own.connect() as connection:
        result = connection.execute(text(statement))
        return list(result) if result.returns_rows else []


async def _clean(sessions: weakref.WeakSet[Session], engine: Any, own: Engine, loop: bool, notes: Notes) -> None:
    """End whatever is still open, so that nothing of it meets the next hazard."""
    if not loop:
        for session in list(sessions):
            session.close()
    if own.dialect.name == "postgresql":
        _ask(own, END)
        await _still_open(own, wait=True)
    gc.collect()
    await _settled(notes)
    with contextlib.suppress(DBAPIError):
        # The server has ended what it would end now.
        await engine.dispose() if loop else engine.dispose()
