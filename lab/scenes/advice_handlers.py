"""A process with a connection in its pool starts another: which at-fork handlers ran, and how does it fare?

Whatever it starts is over before it goes on: a child of its own leaves through ``os._exit``, a program is ``true``.
"""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Callable
from typing import Any

from sqlalchemy import create_engine, text

from lab.drivers import QUESTION, spoken
from recipes.fork_safe_engine import protect

PROGRAM = ["/bin/true"]


def main(engine: dict[str, Any], database: str, way: str, handler: str) -> dict[str, Any]:
    """Play it: which handlers ran, and what became of the parent's next question.

    Args:
        engine: arguments of ``create_engine``.
        way: how another process is started, one of :data:`WAYS`.
        handler: what is registered: ``note``, ``dispose()`` or ``recipe fork_safe_engine``.
    """
    hears, says = os.pipe()
    shared = create_engine(**engine)
    os.register_at_fork(
        before=lambda: os.write(says, b"before "),
        after_in_parent=lambda: os.write(says, b"after_in_parent "),
        after_in_child=lambda: os.write(says, b"after_in_child "),
    )
    if handler == "dispose()":
        os.register_at_fork(after_in_child=shared.dispose)
    elif handler == "recipe fork_safe_engine":
        protect(shared)
    first = _ask(shared, database)
    WAYS[way]()
    os.close(says)
    with os.fdopen(hears) as told:
        ran = sorted(told.read().split())
    return {"ran": ran, "first": first, "parent": _ask(shared, database)}


def _ask(engine: Any, database: str) -> dict[str, Any]:
    nonce = str(os.getpid())
    try:
        with engine.connect() as connection:
            row = connection.execute(text(QUESTION[database]), {"nonce": nonce}).one()
    except Exception as problem:
        return {"outcome": {"kind": "error", "message": spoken(problem)}, "backend": 0}
    return {"outcome": {"kind": "right" if row.nonce == nonce else "wrong"}, "backend": int(row.backend)}


def _fork() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _forkpty(fork: Callable[[], tuple[int, int]]) -> None:
    child, terminal = fork()
    if child == 0:
        os._exit(0)
    with os.fdopen(terminal, "rb", 0) as said, contextlib.suppress(OSError):
        # The child's end of a terminal that is gone is an error, not an end of file.
        said.read()
    os.waitpid(child, 0)


def _spawned() -> None:
    os.waitpid(os.posix_spawn(PROGRAM[0], PROGRAM, os.environ), 0)


WAYS: dict[str, Callable[[], object]] = {
    "os.fork": _fork,
    "os.forkpty": lambda: _forkpty(os.forkpty),
    "pty.fork": lambda: _forkpty(pty.fork),
    "subprocess": lambda: subprocess.run(PROGRAM, check=True),
    "subprocess, start_new_session": lambda: subprocess.run(PROGRAM, check=True, start_new_session=True),
    "subprocess, preexec_fn": lambda: subprocess.run(PROGRAM, check=True, preexec_fn=os.setsid),
    "os.posix_spawn": _spawned,
    "os.system": lambda: os.system(PROGRAM[0]),
}
