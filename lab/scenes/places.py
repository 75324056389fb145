"""Where a second thread of a process holds a lock that its child will want: SQLAlchemy's pool, its mappers, a log.

Each place is a context that gives the thread's job, and what lets it go on; ``Door.reached`` tells that it is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import platform
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import Engine, event, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.orm import Mapper, configure_mappers
from sqlalchemy.util import queue

from lab import procfs
from lab.process import wait_until

CALLS = {"x86_64": {"futex": "202", "write": "1"}, "aarch64": {"futex": "98", "write": "64"}}

Job = tuple[Callable[[], object], Callable[[], object]]


class Door:
    """Where the second thread stops, and whence it goes on. Others pass."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.thread: threading.Thread | None = None

    def stop(self, *_: object) -> None:
        if threading.current_thread() is self.thread:
            self.reached.set()
            self.opened.wait()


def ask(engine: Engine, statement: str = "select 1") -> str:
    with engine.connect() as connection:
        return "right" if connection.execute(text(statement)).all() else "wrong"


@contextlib.contextmanager
def _checking_in(engine: Engine, door: Door) -> Iterator[Job]:
    """A thread gives a connection back and stands within ``Queue.put``, which holds the lock of the pool's queue."""

    def job() -> None:
        with engine.connect():
            _stop_in(queue.Queue._put, door)

    yield job, door.opened.set


@contextlib.contextmanager
def _first_connect(engine: Engine, door: Door) -> Iterator[Job]:
    """A thread makes the engine's first connection, and stands where the dialect is to learn the server's version."""

    def job() -> None:
        _stop_in(DefaultDialect.initialize, door)
        ask(engine)

    yield job, door.opened.set


def _stop_in(function: Callable, door: Door) -> None:
    """Have this thread stop when it next enters *function*."""

    def trace(frame, happens, _) -> None:
        if happens == "call" and frame.f_code is function.__code__:
            sys.settrace(None)
            door.stop()

    sys.settrace(trace)


@contextlib.contextmanager
def _mappers(engine: Engine, door: Door) -> Iterator[Job]:
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
def _handler(engine: Engine, door: Door, own: type = contextlib.nullcontext) -> Iterator[Job]:
    with _logged_to(Slow(door, own()), engine):
        yield lambda: ask(engine), door.opened.set


@contextlib.contextmanager
def _stream(engine: Engine, door: Door, buffered: bool = True) -> Iterator[Job]:
    """A thread logs more than a pipe takes, and stands in the stream's write until somebody reads."""
    reads, writes = os.pipe()
    size = fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, 4096)
    raw = io.FileIO(writes, "w")
    stream = io.TextIOWrapper(io.BufferedWriter(raw) if buffered else raw, write_through=True)

    def stands() -> bool:
        return sleeps_in("write", f"self/task/{door.thread.native_id}")

    def job() -> None:
        threading.Thread(target=lambda: wait_until(stands, "a full pipe") and door.reached.set()).start()
        ask(engine, f"select '{'x' * 4 * size}'")

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


def sleeps_in(call: str, task: str) -> bool:
    return procfs.state(task) == "S" and call_of(task)[0] == CALLS.get(platform.machine(), {}).get(call)


def call_of(task: str) -> list[str]:
    """The number of the system call that *task* is in, and its arguments; otherwise one word that says why not."""
    try:
        return Path(f"/proc/{task}/syscall").read_text().split()
    except OSError:
        return ["ended"]
