"""A process with one connection forks a child that does one thing and ends; then the process uses its connection again.

Each row is played by a process of its own, forked from an interpreter that holds nothing, with an engine of its own.
Nothing is left to chance: the child is gone before its parent goes on, and garbage is collected when a step says so, or
when a child ends the ordinary way, and never else.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import create_engine, event, exc, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.util import greenlet_spawn

from lab import procfs
from recipes.fork_safe_engine import protect
from recipes.multiprocessing_postfork import start_empty

PATIENCE = 20.0
TRANSACTION = "in a transaction"
INSERT = "insert into fork_grid (token, nth) values (:token, :nth)"
# A third process asks SQLite for the lock that a writer holds: opening the file in this one could end the lock.
PROBE = (
    "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)\n"
    "try: c.execute('begin immediate'); print('lost')\nexcept sqlite3.OperationalError: print('held')"
)

# The globals of an application: they live until they are rebound, or until the interpreter ends.
app = SimpleNamespace(engine=None, session=None, loop=None)


def main(
    engine: dict[str, Any], question: str, loop: bool, rows: Sequence[tuple[str, Sequence[str]]]
) -> dict[str, Any]:
    """Return, for each of *rows*, what the parent saw ``before``, what the child ``did``, and what came ``after``.

    Args:
        engine: arguments of ``create_engine``.
        question: takes ``:nonce``, answers with ``nonce`` and ``backend``. There is a table ``fork_grid (token, nth)``.
        loop: the driver needs an event loop. The parent's rests while it forks; the child runs one of its own.
        rows: each has the moment of the fork, "in a transaction" or else the connection is checked in; the names of
            the child's steps (see ``BEFORE`` and ``STEPS``); and last among them how it ends.
    """
    # Imports the dialect and the driver, once for all rows; it opens nothing.
    (create_async_engine if loop else create_engine)(**engine)
    gc.collect()
    app.arguments, app.question, app.async_, app.port = engine, question, loop, make_url(engine["url"]).port
    return {"rows": [_apart(partial(_row, moment, steps)) for moment, steps in rows]}


def _row(moment: str, steps: Sequence[str], tell: Callable[..., None]) -> None:
    # A collection at another moment changes the order in which a later one frees things, and so, it seems, whether
    # mysql-connector shuts a socket or finds it closed.
    gc.disable()
    app.loop = asyncio.new_event_loop() if app.async_ else None
    app.engine = _engine()
    for step in steps:
        BEFORE.get(step, bool)()
    token = secrets.token_hex(8)
    app.session = Session(app.engine) if moment == TRANSACTION else None
    before = _attempt(partial(_write, token, 1) if app.session else _ask)
    tell(before=before, token=token)
    if "gc.freeze" in steps:
        gc.freeze()
    tell(did=_fork(steps))
    if app.session:
        after = [_attempt(partial(_write, token, 2))]
        if not app.port:
            path = make_url(app.arguments["url"]).database
            probe = subprocess.run(
                [sys.executable, "-S", "-c", PROBE, path], capture_output=True, text=True, check=True
            )
            tell(lock=probe.stdout.strip())
        after += [_attempt(app.session.commit)] if after[0]["kind"] == "right" else []
    else:
        after = [_attempt(_ask), _attempt(_ask)]
    tell(after=after)


def _engine() -> Any:
    return create_async_engine(**app.arguments).sync_engine if app.async_ else create_engine(**app.arguments)


def _ask() -> dict[str, Any]:
    with app.engine.connect() as connection:
        return _answer(connection)


def _ask_here() -> dict[str, Any]:
    """Ask on what the child inherited: the Session where there is one, the pool's connection else."""
    return _answer(app.session.connection()) if app.session else _ask()


def _write(token: str, nth: int) -> dict[str, Any]:
    app.session.execute(text(INSERT), {"token": token, "nth": nth})
    return _answer(app.session.connection())


def _answer(connection: Any) -> dict[str, Any]:
    nonce = secrets.token_hex(8)
    row = connection.execute(text(app.question), {"nonce": nonce}).one()
    # SQLite has no server to tell connections apart: whoever is the first to ask on one, signs it.
    who = row.backend or connection.info.setdefault("asked by", os.getpid())
    return {"kind": "right" if row.nonce == nonce else "wrong", "message": "", "who": int(who)}


def _attempt(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return _do(function) or {"kind": "right", "message": "", "who": None}
    except Exception as problem:
        # How it is spoken is left to whoever asked for the scene: what that needs would have to be freed at each exit.
        kind = type(problem)
        return {"kind": "error", "message": str(problem), "type": [kind.__module__, kind.__qualname__], "who": None}


def _do(function: Callable[[], Any]) -> Any:
    # What AsyncEngine and AsyncSession do, with one spelling for all drivers.
    return app.loop.run_until_complete(greenlet_spawn(function)) if app.loop else function()


def _fork(steps: Sequence[str]) -> dict[str, Any]:
    reader, writer = os.pipe()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        os.close(reader)
        if app.loop:
            app.parents_loop, app.loop = app.loop, asyncio.new_event_loop()
        did = [{"step": step, **_attempt(STEPS[step])} for step in steps[:-1] if step in STEPS]
        os.write(writer, json.dumps(did).encode())
        os.close(writer)
        if steps[-1] == "os._exit":
            os._exit(0)
        gc.enable()
        sys.exit(0)
    os.close(writer)
    told, hung = _hear(reader, pid)
    return {"steps": json.loads(told or "[]"), "hung": hung, "exit": _end(pid)}


def _apart(play: Callable[..., None]) -> dict[str, Any]:
    """Play a row in a process of its own, which may hang or die."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        play(lambda **what: os.write(writer, json.dumps(what).encode() + b"\n"))
        os._exit(0)
    os.close(writer)
    told, hung = _hear(reader, pid, 3 * PATIENCE)
    row = {"hung": hung, "exit": _end(pid)}
    for line in told.splitlines():
        row |= json.loads(line)
    return row


def _hear(reader: int, pid: int, seconds: float = PATIENCE) -> tuple[bytes, str]:
    """Read what *pid* says until it closes the pipe; else say where it hangs, and kill it."""
    told, deaf, deadline = b"", 0, time.monotonic() + seconds
    while time.monotonic() < deadline and deaf < 3:
        if not select.select([reader], [], [], 0.1)[0]:
            deaf = deaf + 1 if _deaf(pid) else 0
        elif chunk := os.read(reader, 65536):
            told += chunk
        else:
            os.close(reader)
            return told, ""
    where = procfs.waits_in(pid) or "nowhere known"
    os.kill(pid, signal.SIGKILL)
    os.close(reader)
    return told, f"hangs: asleep in {where}{', which does not watch its connection' if deaf else ''}"


def _deaf(pid: int) -> bool:
    """Whether *pid* sleeps in an event loop that is not told of what happens on its connection: it hangs for ever."""
    if not procfs.waits_in(pid).startswith("epoll"):
        return False
    # A connection that the server has reset is no longer listed as one; the loop's own sockets are Unix sockets.
    unix = {int(line.split()[6]) for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    connections = {fd for fd, inode in procfs.sockets(pid).items() if inode not in unix}
    watched = set()
    # Descriptors may go while they are looked at.
    with contextlib.suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            watched |= {int(fd) for fd in re.findall(r"^tfd:\s*(\d+)", info.read_text(), re.MULTILINE)}
    return bool(connections) and not connections & watched


def _end(pid: int) -> int | str:
    """The exit code of *pid*; one that does not end is killed."""
    deadline = time.monotonic() + PATIENCE
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            where = procfs.waits_in(pid)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"did not end: asleep in {where or '?'}"
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(ended[1])


def _descriptors() -> list[int]:
    """The file descriptors of the inherited connection: its socket, or the files of SQLite."""
    url = make_url(app.arguments["url"])
    if url.port:
        inodes = {row.inode for row in procfs.tcp() if row.remote == url.port}
        return [fd for fd, inode in procfs.sockets(os.getpid()).items() if inode in inodes]
    links = {int(fd): os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    return [fd for fd, target in links.items() if target.startswith(url.database)]


def _close_descriptors() -> None:
    for fd in _descriptors():
        os.close(fd)


def _null_over_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in _descriptors():
        os.dup2(null, fd)
    os.close(null)


def _rebind(name: str, new: object) -> None:
    """Let go of what an application's global held, as a new value for it does."""
    setattr(app, name, new)


def _pid_guard() -> None:
    """SQLAlchemy's own: https://docs.sqlalchemy.org/en/21/core/pooling.html, "Using Connection Pools with
    Multiprocessing or os.fork()", the fourth of its approaches."""

    @event.listens_for(app.engine, "connect")
    def connect(dbapi_connection, connection_record):
        connection_record.info["pid"] = os.getpid()

    @event.listens_for(app.engine, "checkout")
    def checkout(dbapi_connection, connection_record, connection_proxy):
        pid = os.getpid()
        if connection_record.info["pid"] != pid:
            connection_record.dbapi_connection = connection_proxy.dbapi_connection = None
            owner = connection_record.info["pid"]
            raise exc.DisconnectionError(
                f"Connection record belongs to pid {owner}, attempting to check out in pid {pid}"
            )


def _for_ever(thing: object) -> None:
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


BEFORE: dict[str, Callable[[], object]] = {
    "protect": lambda: protect(app.engine),
    "pid guard": _pid_guard,
}
STEPS: dict[str, Callable[[], Any]] = {
    "ask": _ask,
    "ask here": _ask_here,
    "inherited loop": lambda: setattr(app, "loop", app.parents_loop),
    "dispose()": lambda: app.engine.dispose(),
    "dispose(close=False)": lambda: app.engine.dispose(close=False),
    "collect": lambda: gc.collect() and None,
    "keep the pool": lambda: setattr(app, "kept", app.engine.pool),
    "new engine": lambda: _rebind("engine", _engine()),
    "new Session": lambda: _rebind("session", None),
    "close fd": _close_descriptors,
    "null fd": _null_over_descriptors,
    "session.close()": lambda: app.session.close(),
    "start_empty": lambda: start_empty(app.engine),
    "give up the Session": lambda: _for_ever(app.session),
}
