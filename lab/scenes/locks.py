"""A process forks while a second thread of it holds a lock: does the child, which has no such thread, ever get by?

The thread is stopped where real code holds a real lock, and goes on as soon as the child exists: in the parent nothing
is ever stuck. That the child is stuck is read off its state: it has one thread, and that one sleeps in the kernel's
``futex`` call without a time limit, at look after look. Nobody is left who could wake it. Where it stands in Python,
``faulthandler`` tells from inside.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import select
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy import select as select_
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

from lab.drivers import spoken
from lab.process import wait_until
from lab.scenes.places import PLACES, Door, ask, call_of, sleeps_in
from recipes.fork_safe_engine import protect

NO_LIMIT = "0x0"
# How often the child is looked at before it is called stuck.
LOOKS = 8


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)


def main(place: str, child: Sequence[str], held: bool = True, first: str = "") -> dict[str, object]:
    """Return what became of the child and of the parent.

    Args:
        place: where the second thread stands at the fork, one of ``PLACES``.
        child: the child's steps before it asks.
        held: whether there is such a thread at all.
        first: what the parent does before: ``protect``, ``connect``, ``configure_mappers``.
    """
    file = Path(tempfile.mkdtemp(), "db")
    with contextlib.closing(create_engine(f"sqlite:///{file}").raw_connection()) as connection:
        connection.cursor().execute("create table thing (id integer primary key)")
    engine = create_engine(f"sqlite:///{file}")
    {"protect": protect, "connect": ask, "configure_mappers": lambda _: configure_mappers(), "": bool}[first](engine)
    asks = {"mappers": _ask_for_things, "first connect": _ask_for_columns}.get(place, ask)
    door = Door()
    with PLACES[place](engine, door) as (job, let_go):
        if held:
            door.thread = threading.Thread(target=job)
            door.thread.start()
            door.reached.wait()
        stack = os.memfd_create("stack")
        hears, says = os.pipe()
        pid = os.fork()
        if not pid:
            _child(engine, child, asks, stack, says)
        let_go()
        if held:
            door.thread.join()
        parent = asks(engine)
        return {**_watch(pid, hears, stack), "parent": parent, "sqlite": sqlite3.sqlite_version}


def _ask_for_things(engine: Engine) -> str:
    with Session(engine) as session:
        return "wrong" if session.scalars(select_(Thing)).all() else "right"


def _ask_for_columns(engine: Engine) -> str:
    ask(engine)
    return "right" if inspect(engine).get_columns("thing") else "wrong"


def _child(engine: Engine, steps: Sequence[str], asks: Callable[[Engine], str], stack: int, says: int) -> None:
    try:
        faulthandler.register(signal.SIGUSR1, file=stack, all_threads=True)
        for step in steps:
            if step == "a new engine":
                engine = create_engine(engine.url)
            else:
                engine.dispose(close=step == "dispose()")
        told = {"child": asks(engine)}
    except Exception as problem:
        told = {"child": "error", "said": spoken(problem)}
    os.write(says, json.dumps(told).encode())
    os._exit(0)


def _watch(pid: int, hears: int, stack: int) -> dict[str, object]:
    """What the child says, or the proof that it never will."""
    try:
        wait_until(lambda: _has_said(hears) or _is_stuck(pid), "the child answers, or is stuck")
        if _has_said(hears):
            return json.loads(os.read(hears, 65536))
        os.kill(pid, signal.SIGUSR1)
        # Once it has begun to write and sleeps again, it has written all.
        wait_until(lambda: os.fstat(stack).st_size and _is_stuck(pid), "the child's stack")
        told = os.pread(stack, 65536, 0).decode()
        return {"child": "hung", "waits_in": "futex", "threads": _threads(pid), "stands_in": _place(told)}
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _has_said(hears: int) -> bool:
    return bool(select.select([hears], [], [], 0)[0])


def _is_stuck(pid: int) -> bool:
    return all(_threads(pid) == 1 and _waits_for_a_lock(pid) for _ in range(LOOKS))


def _threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def _waits_for_a_lock(pid: int) -> bool:
    """Is *pid* asleep in ``futex`` with no time limit, its fourth argument?"""
    return sleeps_in("futex", str(pid)) and call_of(str(pid))[4:5] == [NO_LIMIT]


def _place(stack: str) -> str:
    """The innermost frame but those of ``threading``: file, without where it is installed, and function."""
    frames = re.findall(r'File "(.*)", line \d+ in (.*)', stack)
    file, function = next((file, name) for file, name in frames if not file.endswith("/threading.py"))
    return f"{re.sub(r'.*/(site-packages|python3[.][0-9]+|scenes)/', '', file)}, {function}"
