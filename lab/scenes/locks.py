"""A process forks while a second thread of it holds a lock: does the child, which has no such thread, ever get by?

The thread is stopped where real code holds a real lock, and goes on as soon as the child exists: in the parent nothing
is ever stuck. That the child is stuck is read off its state: it has one thread, and that one sleeps in the kernel's
``futex`` call without a time limit, at look after look. Nobody is left who could wake it. Where it stands in Python,
``faulthandler`` tells from inside.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import io
import json
import logging
import os
import platform
import re
import select
import signal
import sqlite3
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy import select as select_
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session, configure_mappers, mapped_column
from sqlalchemy.util import queue

from lab import procfs
from lab.drivers import spoken
from lab.process import wait_until
from recipes.fork_safe_engine import protect

CALLS = {"x86_64": {"futex": "202", "write": "1"}, "aarch64": {"futex": "98", "write": "64"}}
NO_LIMIT = "0x0"
# How often the child is looked at before it is called stuck.
LOOKS = 8


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)


class Door:
    """Where the second thread stops, and whence it goes on. Others pass."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def stop(self, *_: object) -> None:
        if threading.current_thread() is self.thread:
            self.reached.set()
            self.opened.wait()


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
    {"protect": protect, "connect": _ask, "configure_mappers": lambda _: configure_mappers(), "": bool}[first](engine)
    ask = {"mappers": _ask_for_things, "first connect": _ask_for_columns}.get(place, _ask)
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
            _child(engine, child, ask, stack, says)
        let_go()
        if held:
            door.thread.join()
        parent = ask(engine)
        return {**_watch(pid, hears, stack), "parent": parent, "sqlite": sqlite3.sqlite_version}


@contextlib.contextmanager
def _checking_in(engine: Engine, door: Door) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """A thread gives a connection back and stands within ``Queue.put``, which holds the lock of the pool's queue."""

    def job() -> None:
        with engine.connect():
            _stop_in(queue.Queue._put, door)

    yield job, door.opened.set


@contextlib.contextmanager
def _first_connect(engine: Engine, door: Door) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    """A thread makes the engine's first connection, and stands where the dialect is to learn the server's version."""

    def job() -> None:
        _stop_in(DefaultDialect.initialize, door)
        _ask(engine)

    yield job, door.opened.set


def _stop_in(function: Callable, door: Door) -> None:
    """Have this thread stop when it next enters *function*."""

    def trace(frame, happens, _) -> None:
        if happens == "call" and frame.f_code is function.__code__:
            sys.settrace(None)
            door.stop()

    sys.settrace(trace)


@contextlib.contextmanager
def _mappers(engine: Engine, door: Door) -> Iterator[tuple[Callable[[], object], Callable[[], object]]]:
    event.listen(Mapper, "before_configured", door.stop)
    yield configure_mappers, door.opened.set


class Slow(logging.Handler):
    """A handler whose ``emit`` takes its time, under the lock that every handler has, and under *own*."""

    def __init__(self, door: Door, own: contextlib.AbstractContextManager) -> None:
        super().__init__()
        self.door, self.own = door, own

    def emit(self, record: logging.LogRecord) -> None:
        with self.own:
            self.door.stop()


@contextlib.contextmanager
def _handler(engine: Engine, door: Door, own: type = contextlib.nullcontext) -> Iterator[tuple]:
    with _logged_to(Slow(door, own()), engine):
        yield lambda: _ask(engine), door.opened.set


@contextlib.contextmanager
def _stream(engine: Engine, door: Door, buffered: bool = True) -> Iterator[tuple]:
    """A thread logs more than a pipe takes, and stands in the stream's write until somebody reads."""
    reads, writes = os.pipe()
    size = fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    raw = io.FileIO(writes, "w")
    stream = io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, write_through=True)

    def stands() -> bool:
        return _sleeps_in("write", f"self/task/{door.thread.native_id}")

    def job() -> None:
        threading.Thread(target=lambda: wait_until(stands, "a full pipe") and door.reached.set()).start()
        _ask(engine, f"select '{'x' * 4 * size}'")

    def drain() -> None:
        threading.Thread(target=lambda: all(iter(lambda: os.read(reads, size), b"")), daemon=True).start()

    with _logged_to(logging.StreamHandler(stream), engine):
        yield job, drain


@contextlib.contextmanager
def _logged_to(handler: logging.Handler, engine: Engine) -> Iterator[None]:
    """As ``echo=True`` logs, to *handler* instead of the standard output."""
    logging.getLogger().addHandler(handler)
    engine.echo = True
    yield


PLACES = {
    "pool": _checking_in,
    "first connect": _first_connect,
    "mappers": _mappers,
    "handler": _handler,
    "handler's own lock": lambda engine, door: _handler(engine, door, threading.Lock),
    "buffered stream": _stream,
    "unbuffered stream": lambda engine, door: _stream(engine, door, False),
}


def _ask(engine: Engine, statement: str = "select 1") -> str:
    with engine.connect() as connection:
        return "right" if connection.execute(text(statement)).all() else "wrong"


def _ask_for_things(engine: Engine) -> str:
    with Session(engine) as session:
        return "wrong" if session.scalars(select_(Thing)).all() else "right"


def _ask_for_columns(engine: Engine) -> str:
    _ask(engine)
    return "right" if inspect(engine).get_columns("thing") else "wrong"


def _child(engine: Engine, steps: Sequence[str], ask: Callable[[Engine], str], stack: int, says: int) -> None:
    try:
        faulthandler.register(signal.SIGUSR1, file=stack, all_threads=True)
        for step in steps:
            if step == "a new engine":
                engine = create_engine(engine.url)
            else:
                engine.dispose(close=step == "dispose()")
        told = {"child": ask(engine)}
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
        wait_until(lambda: _is_stuck(pid) and os.fstat(stack).st_size, "the child's stack")
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
    return _sleeps_in("futex", str(pid)) and _call(str(pid))[4:5] == [NO_LIMIT]


def _sleeps_in(call: str, task: str) -> bool:
    return procfs.state(task) == "S" and _call(task)[0] == CALLS[platform.machine()][call]


def _call(task: str) -> list[str]:
    """The number of the system call that *task* is in, and its arguments; otherwise ``running``."""
    return Path(f"/proc/{task}/syscall").read_text().split()


def _place(stack: str) -> str:
    """The innermost frame but those of ``threading``: file, without where it is installed, and function."""
    frames = re.findall(r'File "(.*)", line \d+ in (.*)', stack)
    file, function = next((file, name) for file, name in frames if not file.endswith("/threading.py"))
    return f"{re.sub(r'.*/(site-packages|python3[.][0-9]+|scenes)/', '', file)}, {function}"
