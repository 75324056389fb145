"""A process forks while its event loop runs, with an async engine that has connected: what can either do then?

The scene itself is no party: it forks the parent, which forks the child from within a coroutine, and watches both. The
parent's loop stands still until the child has had its say, or is stuck. Stuck is who sleeps in the selector without a
time limit while the server has answered whatever it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import secrets
import select
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, NullPool, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from lab import procfs
from lab.drivers import QUESTION, spoken
from lab.process import wait_until
from lab.scenes.choreography import CONTROL
from recipes.fork_safe_engine import protect

# The sessions of clients but for the one that asks, and those of them that wait for a question.
SESSIONS = {
    "postgresql": "select count(*), count(*) filter (where state like 'idle%') from pg_stat_activity"
    " where client_port > 0 and pid <> pg_backend_pid()",
    "mariadb": "select count(*), count(if(command = 'Sleep', 1, null)) from information_schema.processlist"
    " where host like '%:%' and id <> connection_id()",
}
FOREVER = ("0xffffffff", "0xffffffffffffffff")
LOOKS = 8


def main(
    engine: dict[str, Any], database: str, own_loop: bool, steps: Sequence[str], protected: bool
) -> dict[str, Any]:
    """Return what parent and child got, the ``backend`` that the parent was on, and whether its loop still ``watched``.

    Args:
        engine: arguments of ``create_async_engine``.
        own_loop: whether the child uses ``asyncio.run``; else its coroutine goes on in the inherited loop.
        steps: of the child: ``ask``, ``dispose(close=False)``, ``gc.collect``, ``a new engine``.
        protected: whether the recipe is applied to the engine's ``sync_engine``.
    """
    child, parent, orders = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if not pid:
        os.close(orders[1])
        # A collection that nobody ordered would say in the controls what only an ordered one is to say.
        gc.disable()
        asyncio.run(_parent(engine, database, own_loop, steps, protected, child[1], parent[1], orders[0]))
        os._exit(0)
    first = wait_until(lambda: _said(parent[0]), "the parent has forked")
    try:
        with _control(make_url(engine["url"]), database) as server:

            def stuck(one: int) -> dict[str, Any] | None:
                vain = all(_waits_in_vain(one, server) for _ in range(LOOKS))
                return {"kind": "hung", "sessions": server.sessions()[0]} if vain else None

            told = wait_until(lambda: _said(child[0]) or stuck(first["child"]), "the child has asked, or is stuck")
            # What it asked may still be on its way to the parent.
            wait_until(server.has_answered, "the server has answered the child")
            watched = _watches(pid, server.port)
            os.write(orders[1], b".")
            after = wait_until(lambda: _said(parent[0]) or stuck(pid), "the parent has asked, or is stuck")
    finally:
        for one in (first["child"], pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        os.waitpid(pid, 0)
    return {"backend": first["backend"], "child": told, "parent": after, "watched": watched}


@dataclass(frozen=True)
class Server:
    """The server, as the scene sees it on a connection of its own."""

    port: int
    connection: Connection
    question: str

    def sessions(self) -> tuple[int, int]:
        """How many sessions there are but this one, and how many of them wait for a question."""
        return tuple(self.connection.execute(text(self.question)).one())

    def has_answered(self) -> bool:
        """Has it read all that it was sent, and does each of its connections belong to a session that waits?"""
        rows = [row for row in procfs.tcp() if row.local == self.port and row.remote]
        # One connection is the scene's. One that is still being opened belongs to no session yet.
        connections = sum(row.inode > 0 for row in rows) - 1
        return self.sessions() == (connections, connections) and not any(row.unread for row in rows)


@contextlib.contextmanager
def _control(url: URL, database: str) -> Iterator[Server]:
    engine = create_engine(url.set(drivername=CONTROL[database]), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield Server(url.port, connection, SESSIONS[database])


async def _parent(engine, database, own_loop, steps, protected, child: int, parent: int, orders: int) -> None:
    shared = create_async_engine(**engine)
    if protected:
        protect(shared.sync_engine)
    asked = await _ask(shared, database)
    pid = os.fork()
    if not pid:
        try:
            if own_loop:
                _say(child, asyncio.run(_child(shared, engine, database, steps)))
            else:
                _say(child, await _child(shared, engine, database, steps))
        except Exception as problem:
            _say(child, {"kind": "error", "message": _words(problem)})
        finally:
            os._exit(0)
    _say(parent, {"child": pid, **asked})
    os.read(orders, 1)
    _say(parent, await _ask(shared, database))
    os._exit(0)


async def _child(engine: AsyncEngine, arguments: dict[str, Any], database: str, steps: Sequence[str]) -> dict[str, Any]:
    told = {}
    for step in steps:
        if step == "ask":
            told = await _ask(engine, database)
        elif step == "a new engine":
            # The parent's stays in the hands of the parent's coroutine, and so is not collected.
            engine = create_async_engine(**arguments)
        elif step == "gc.collect":
            gc.collect()
        else:
            await engine.dispose(close=False)
    return told


async def _ask(engine: AsyncEngine, database: str) -> dict[str, Any]:
    nonce = secrets.token_hex(8)
    try:
        async with engine.connect() as connection:
            row = (await connection.execute(text(QUESTION[database]), {"nonce": nonce})).one()
    except Exception as problem:
        return {"kind": "error", "message": _words(problem)}
    return {"kind": "right" if row.nonce == nonce else "wrong", "backend": int(row.backend)}


def _say(where: int, words: dict[str, Any]) -> None:
    os.write(where, json.dumps(words).encode())


def _said(where: int) -> dict[str, Any] | None:
    return json.loads(os.read(where, 65536)) if select.select([where], [], [], 0)[0] else None


def _waits_in_vain(pid: int, server: Server) -> bool:
    """Is *pid* asleep in the selector with no time limit, and no answer on its way?"""
    with contextlib.suppress(OSError, IndexError):
        limit = Path(f"/proc/{pid}/syscall").read_text().split()[4]
        return procfs.waits_in(pid).startswith("epoll") and limit in FOREVER and server.has_answered()
    return False


def _watches(pid: int, port: int) -> bool:
    """Does the selector of *pid* watch its connection to the server?"""
    theirs = {row.inode for row in procfs.tcp() if row.remote == port}
    connected = {fd for fd, inode in procfs.sockets(pid).items() if inode in theirs}
    selectors = (fd for fd in Path(f"/proc/{pid}/fd").iterdir() if "eventpoll" in os.readlink(fd))
    told = "".join((fd.parent.parent / "fdinfo" / fd.name).read_text() for fd in selectors)
    return bool(connected & set(map(int, re.findall(r"tfd:\s+(\d+)", told))))


def _words(problem: Exception) -> str:
    """The message, without where this machine keeps its files."""
    return re.sub(r"/[\w./-]+/", "", spoken(problem))
