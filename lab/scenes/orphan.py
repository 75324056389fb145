"""A program is killed in the middle of a transaction while a child of its own lives on: who ends the transaction? (F4)

The program runs in a process of its own, which has opened nothing when it is forked.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from lab import procfs
from lab.drivers import spoken
from lab.process import wait_until

STATE = "select state, wait_event from pg_stat_activity where pid = :backend"


def main(engine: dict[str, Any], child: bool) -> dict[str, Any]:
    """Return the backend's ``state`` after the kill, what another client's ``update`` met, and how that ends.

    Args:
        engine: arguments of ``create_engine``, for PostgreSQL.
        child: whether the killed program has a child that lives on.
    """
    hears, says = os.pipe()
    stays, leaves = os.pipe()
    program = os.fork()
    if not program:
        try:
            os.close(leaves)
            _program(engine, child, says, stays)
        finally:
            os._exit(1)
    os.close(says)
    os.close(stays)
    # Both ends are held by the program and its child: what is read is there, or never comes.
    heir, backend = map(int, os.read(hears, 64).split())
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
    onlooker = create_engine(**engine, isolation_level="AUTOCOMMIT")
    if not child:
        wait_until(lambda: not _state(onlooker, backend), "the end of the backend")
    found = {
        "state": _state(onlooker, backend) or "gone",
        "owners": sum(len(pids) for pids in procfs.owners(onlooker.url.port, [heir]).values()) if child else 0,
        "update": _update(onlooker),
    }
    os.close(leaves)
    wait_until(lambda: not _state(onlooker, backend), "the end of the backend")
    return {**found, "update_later": _update(onlooker)}


def _program(engine: dict[str, Any], child: bool, says: int, stays: int) -> None:
    shared = create_engine(**engine)
    with shared.begin() as connection:
        connection.execute(text("drop table if exists stock"))
        connection.execute(text("create table stock as select 1 as id, 10 as amount"))
    session = Session(shared)
    session.execute(text("update stock set amount = 9 where id = 1"))
    backend = session.scalar(text("select pg_backend_pid()"))
    heir = os.fork() if child else 0
    if child and not heir:
        try:
            # Until the scene lets it go, or is gone.
            os.read(stays, 1)
        finally:
            os._exit(0)
    os.write(says, f"{heir} {backend}".encode())
    signal.pause()


def _state(onlooker: Engine, backend: int) -> str:
    with onlooker.connect() as connection:
        return " / ".join(connection.execute(text(STATE), {"backend": backend}).one_or_none() or ())


def _update(onlooker: Engine) -> str:
    """Change the row, as any other client would; say what became of it."""
    with onlooker.connect() as connection:
        connection.execute(text("set lock_timeout = '500ms'"))
        try:
            connection.execute(text("update stock set amount = 8 where id = 1"))
        except Exception as problem:
            return spoken(problem)
    return "done"
