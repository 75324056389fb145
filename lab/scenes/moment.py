"""A process with an engine forks; the child does what it is told, then the parent goes on.

A life is a list of steps, and so is what the child does; :class:`Life` has them all. Every step is over before the next
one begins, in the parent, in its second thread and in the child, so that nothing is left to chance. The child collects
its garbage where it is told to, not when it happens to, and leaves through ``os._exit``.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import secrets
import select
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import QUESTION, spoken
from recipes.fork_safe_engine import protect

# Whether a connection is in a transaction, as the server sees it. MariaDB's view is up to a tenth of a second old.
IN_TRANSACTION = {
    "postgresql": "select count(*) from pg_stat_activity where pid = {0} and state like 'idle in transaction%'",
    "mariadb": "select null",
}
SECONDS = 20


def main(engine: dict[str, Any], database: str, acts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Play *acts* one after the other, each with an engine of its own; return a row for each.

    Args:
        engine: arguments of ``create_engine``.
        acts: ``parent`` and ``child``, the steps of each; ``options``, further arguments of ``create_engine``
            (``NullPool`` for the class of that name); ``protected``, whether the recipe is applied.
    """
    # The lab's own look at the server; a NullPool with nothing checked out is no part of what the child inherits.
    control = create_engine(**engine, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with control.connect() as connection:
        connection.execute(text("create table if not exists work (word varchar(40))"))
    return {"rows": [_act(engine, database, control, **act) for act in acts]}


def _act(
    engine: dict[str, Any],
    database: str,
    control: Engine,
    parent: Sequence[str],
    child: Sequence[str],
    options: dict[str, Any] | None = None,
    protected: bool = False,
) -> dict[str, Any]:
    further = {key: NullPool if value == "NullPool" else value for key, value in (options or {}).items()}
    shared = create_engine(**engine, **further)
    life = Life(protect(shared) if protected else shared, database)
    for step in parent:
        life.take(step)
    backend = life.backend
    told = _fork(life, child)
    with control.connect() as connection:
        in_transaction = connection.scalar(text(IN_TRANSACTION[database].format(backend or 0)))
        finished = life.finish()
        kept = connection.scalar(text("select count(*) from work where word = :word"), {"word": life.word})
    with contextlib.suppress(Exception):
        life.held.close()
    shared.dispose()
    return {
        "backend": backend,
        "child": told,
        "parent": finished,
        "in_transaction": None if in_transaction is None else bool(in_transaction),
        "kept": kept,
    }


class Life:
    """What a process has: an engine, perhaps something in a transaction, perhaps a second thread that waits in it."""

    def __init__(self, engine: Engine, database: str) -> None:
        self.engine, self.database = engine, database
        self.word = secrets.token_hex(16)
        self.backend: int | None = None
        self.held: Connection | Session | scoped_session | None = None
        self.writes: Callable[[], dict[str, Any]] | None = None

    def take(self, step: str) -> Any:
        return {
            "ask": self.ask,
            "raw_connection()": self.read,
            "use": lambda: self.ask(self.held),
            "a thread asks": lambda: _in_a_thread(self.ask)(),
            "Connection": lambda: self.hold(self.engine.connect()),
            "Session": lambda: self.hold(Session(self.engine)),
            "scoped_session": lambda: self.hold(scoped_session(sessionmaker(self.engine))),
            "a thread's Connection": self.hold_in_a_thread,
            "identity": self.identity,
            "commit()": lambda: self.held.commit(),
            "rollback()": lambda: self.held.rollback(),
            "close()": lambda: self.held.close(),
            "remove()": lambda: self.held.remove(),
            "dispose()": self.dispose,
            "dispose(close=False)": lambda: self.engine.dispose(close=False),
            "gc.collect": lambda: bool(gc.collect()),
        }[step]()

    def ask(self, on: Any = None) -> dict[str, Any]:
        """Ask *on* something held, or else on a connection from the pool; whose answer, and from which backend?"""
        nonce = secrets.token_hex(8)
        try:
            with contextlib.nullcontext(on) if on else self.engine.connect() as connection:
                row = connection.execute(text(QUESTION[self.database]), {"nonce": nonce}).one()
        except Exception as problem:
            return {"kind": "error", "message": _said(problem)}
        if on or not isinstance(self.engine.pool, NullPool):
            self.backend = int(row.backend)
        return {"kind": "right" if row.nonce == nonce else "wrong", "backend": int(row.backend)}

    def read(self) -> None:
        """Read a row as one does without SQLAlchemy's Connection, which would end its transaction itself."""
        with (
            contextlib.closing(self.engine.raw_connection()) as connection,
            contextlib.closing(connection.cursor()) as it,
        ):
            it.execute("select count(*) from work")
            it.fetchone()

    def dispose(self) -> None:
        self.engine.dispose()
        if not self.held:
            self.backend = None

    def hold(self, thing: Any) -> None:
        """Begin a transaction with half of some work, and keep it open."""
        self.held, self.writes = thing, self.commit
        if isinstance(thing, scoped_session):
            thing.info["begun in"] = os.getpid()
        self.ask(thing)
        self.write()

    def hold_in_a_thread(self) -> None:
        """Let a second thread do so, and wait with the other half until it is asked for."""
        began, go_on = threading.Event(), threading.Event()

        def work() -> dict[str, Any]:
            self.hold(self.engine.connect())
            began.set()
            go_on.wait()
            return self.commit()

        finished = _in_a_thread(work)
        began.wait()

        def finish() -> dict[str, Any]:
            go_on.set()
            return finished()

        self.writes = finish

    def write(self) -> None:
        self.held.execute(text("insert into work values (:word)"), {"word": self.word})

    def commit(self) -> dict[str, Any]:
        try:
            self.write()
            self.held.commit()
        except Exception as problem:
            return {"kind": "error", "message": _said(problem)}
        return {"kind": "right"}

    def finish(self) -> dict[str, Any]:
        """Do the other half of the work, or ask where there is none."""
        return self.writes() if self.writes else self.ask()

    def identity(self) -> dict[str, Any]:
        """Is the Session that the registry hands out the parent's?"""
        session = self.held()
        return {"inherited": session.info.get("begun in") == os.getppid(), "in_transaction": session.in_transaction()}


def _said(problem: Exception) -> str:
    return spoken(problem).partition(" (Background on this")[0].strip()


def _in_a_thread(function: Callable[[], Any]) -> Callable[[], Any]:
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(function()))
    thread.start()

    def wait() -> Any:
        thread.join()
        return got[0]

    return wait


def _fork(life: Life, steps: Sequence[str]) -> dict[str, Any]:
    hears, says = os.pipe()
    pid = os.fork()
    if not pid:
        told: dict[str, Any] = {}
        try:
            gc.disable()
            for step in steps:
                told[step] = life.take(step)
        except Exception as problem:
            told[step] = {"kind": "error", "message": _said(problem)}
        finally:
            os.write(says, json.dumps(told).encode())
            os._exit(0)
    os.close(says)
    # A child that says nothing is killed, and has told nothing.
    if not select.select([hears], [], [], SECONDS)[0]:
        os.kill(pid, signal.SIGKILL)
    with open(hears) as report:
        told = report.read()
    os.waitpid(pid, 0)
    return json.loads(told or "{}")
