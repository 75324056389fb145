"""A process forks a child that uses, holds or drops what it inherited, with the crossing guard on or off.

Nothing is left to chance: the child has done its part and has left before the parent goes on.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import Session

from lab.drivers import QUESTION, spoken
from recipes import crossing_guard

held: dict[str, Any] = {}


class Lines(logging.Handler):
    """Keep what is logged, as text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def main(engine: Mapping[str, Any], database: str, loop: bool, guard: str, cases: Sequence[str]) -> dict[str, Any]:
    """Play each of *cases* with an engine of its own; return what became of it, by case.

    Args:
        engine: arguments of ``create_engine``.
        loop: whether the driver needs an event loop.
        guard: ``off``, ``on`` or ``strict``.
        cases: names of rows of ``SYNC``, or of ``ASYNC`` for a driver that needs a loop.
    """
    return {"rows": {case: _play(engine, database, loop, guard, case) for case in cases}}


def _play(arguments: Mapping[str, Any], database: str, loop: bool, guard: str, case: str) -> dict[str, Any]:
    engine = (create_async_engine if loop else create_engine)(**arguments)
    if guard != "off":
        crossing_guard.watch(engine, strict=guard == "strict")
    log = logging.getLogger("crossing_guard")
    log.propagate = False
    log.handlers = [heard := Lines()]
    held["arguments"] = arguments
    prepare, child, finish = (ASYNC if loop else SYNC)[case]
    prepare(engine, database)
    hears, says = os.pipe()
    pid = os.fork()
    if not pid:
        outcome = _outcome(lambda: child(engine, database))
        with open(says, "w") as report:
            json.dump({"outcome": outcome, "lines": heard.lines}, report)
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(says)
    with open(hears) as report:
        told = json.load(report)
    after = _outcome(lambda: finish(engine, database))
    held.clear()
    # What a case leaves behind must not be collected in the child of the next.
    gc.collect()
    both = [f"process {pid} " in line and f"process {os.getpid()} " in line for line in told["lines"]]
    here = [line.count(os.path.basename(__file__)) >= 2 for line in told["lines"]]
    return {**told, "names_both": both == [True], "stacks": here == [True], "parents": heard.lines, "after": after}


def _outcome(action: Callable[[], object]) -> dict[str, Any]:
    try:
        return {"kind": "right", "message": "", "value": action()}
    except Exception as problem:
        return {"kind": "error", "message": spoken(problem), "value": None}


def _ask(engine: Engine, database: str) -> None:
    with engine.connect() as connection:
        _answered(connection, database)


def _answered(connection: Connection, database: str) -> None:
    nonce = f"n{os.getpid()}"
    row = connection.execute(text(QUESTION[database]), {"nonce": nonce}).one()
    if row.nonce != nonce:
        raise RuntimeError(f"asked for {nonce}, was given {row.nonce}")


def _hold(engine: Engine, database: str) -> None:
    held["connection"] = engine.connect()
    _answered(held["connection"], database)


def _use_held(engine: Engine, database: str) -> None:
    _answered(held["connection"], database)


def _write(engine: Engine, database: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("delete from kept"))
    session = held["session"] = Session(engine)
    session.execute(text("insert into kept values (1)"))


def _collect(engine: Engine, database: str) -> None:
    del held["session"]
    gc.collect()


def _close_session(engine: Engine, database: str) -> None:
    held["session"].close()


def _write_more(engine: Engine, database: str) -> int:
    """How much of the two rows that the parent wrote in one transaction is there."""
    with held["session"] as session:
        session.execute(text("insert into kept values (2)"))
        session.commit()
        return session.scalar(text("select count(*) from kept"))


def _nothing(engine: Engine | AsyncEngine, database: str) -> None:
    pass


def _own_engine(engine: Engine, database: str) -> None:
    # Watched, too, so that its silence is the guard's.
    _ask(crossing_guard.watch(create_engine(**held["arguments"])), database)


def _dispose(engine: Engine, database: str) -> None:
    engine.dispose()


def _let_go(engine: Engine, database: str) -> None:
    engine.dispose(close=False)
    gc.collect()


SYNC: dict[str, tuple[Callable[..., None], Callable[..., None], Callable[..., None]]] = {
    "pooled checkout": (_ask, _ask, _ask),
    "held Connection": (_hold, _use_held, _use_held),
    "collected Session": (_write, _collect, _write_more),
    "closed Session": (_write, _close_session, _write_more),
    "dispose()": (_ask, _dispose, _ask),
    "dispose(close=False)": (_ask, _let_go, _ask),
    "no use": (_ask, _nothing, _ask),
    "an engine of its own": (_ask, _own_engine, _ask),
}


async def _ask_async(engine: AsyncEngine, database: str) -> None:
    async with engine.connect() as connection:
        await connection.run_sync(_answered, database)


def _ask_in_loop(engine: AsyncEngine, database: str) -> None:
    _loop().run_until_complete(_ask_async(engine, database))


async def _hold_async(engine: AsyncEngine, database: str) -> None:
    held["connection"] = await engine.connect().start()
    await held["connection"].run_sync(_answered, database)


def _loop() -> asyncio.AbstractEventLoop:
    # The child goes on with the loop that it inherited: another one would refuse the connection before it is used.
    return held.setdefault("loop", asyncio.new_event_loop())


def _hold_in_loop(engine: AsyncEngine, database: str) -> None:
    _loop().run_until_complete(_hold_async(engine, database))


def _use_held_in_loop(engine: AsyncEngine, database: str) -> None:
    _loop().run_until_complete(held["connection"].run_sync(_answered, database))


ASYNC = {
    "pooled checkout": (_ask_in_loop, _ask_in_loop, _ask_in_loop),
    "held Connection": (_hold_in_loop, _use_held_in_loop, _use_held_in_loop),
    "no use": (_ask_in_loop, _nothing, _ask_in_loop),
}
