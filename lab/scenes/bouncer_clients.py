"""Clients of a PgBouncer: processes with an engine each, which do one step after the other, as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from lab.drivers import spoken
from lab.process import LabError

# Two queries whose results have the same shape, so that one can pass for the other.
WHO = {who: f"select cast(:nonce as text) as nonce, '{who}' as who, pg_backend_pid() as backend" for who in "AB"}


@dataclass
class Seat:
    """What a step works with: the client's engine, and a connection that earlier steps opened."""

    engine: Engine
    held: Connection | None = None


Step = Callable[..., Any]


@dataclass(frozen=True)
class Answer:
    """What a step returned, or what it said as it failed."""

    value: Any = None
    says: str = ""


class Client:
    """A process of its own: what drivers count, they count by process."""

    def __init__(self, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        # Forked, before anybody here has an engine or a loop.
        fork = multiprocessing.get_context("fork")
        self._pipe, theirs = fork.Pipe()
        self._process = fork.Process(target=_live, args=(theirs, arguments, settings), daemon=True)
        self._process.start()

    def __call__(self, step: Step, *args: Any) -> Answer:
        """Do *step*, a function of this process's modules, with the client's seat and *args*.

        Raises:
            LabError: it is not done in time.
        """
        self.start(step, *args)
        if (answer := self.answer(30)) is None:
            raise LabError(f"{step.__name__} does not end")
        return answer

    def start(self, step: Step, *args: Any) -> None:
        """Begin a step that may have to wait; :meth:`answer` tells how it ends."""
        self._pipe.send((step, args))

    def answer(self, seconds: float) -> Answer | None:
        """The answer of the step that was started; None if there is none within *seconds*."""
        return self._pipe.recv() if self._pipe.poll(seconds) else None

    def stop(self) -> None:
        self._process.terminate()
        self._process.join()


@contextlib.contextmanager
def clients(
    count: int, arguments: Mapping[str, Any], settings: Mapping[str, Any] = {}, *, pool: str
) -> Iterator[list[Client]]:
    """So many new clients that share one pool of server connections, of which *pool* is the name.

    Args:
        arguments: of ``create_engine``.
        settings: more of them, and what cannot travel: ``names`` gives prepared statements names that nobody else
            has, ``null_pool`` is for NullPool, and ``begin`` is a statement that begins every transaction.
    """
    url = make_url(arguments["url"]).set(database=pool).render_as_string(False)
    mine = [Client({**arguments, "url": url}, settings) for _ in range(count)]
    try:
        yield mine
    finally:
        for client in mine:
            client.stop()


def engine_of(arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Engine, bool]:
    """The engine, and whether it has to be used from a loop."""
    options = {name: value for name, value in settings.items() if name not in ("names", "null_pool", "begin")}
    connect = {**arguments.get("connect_args", {}), **options.pop("connect_args", {})}
    if settings.get("names"):
        connect["prepared_statement_name_func"] = lambda: f"__asyncpg_{uuid4()}__"
    if settings.get("null_pool"):
        options["poolclass"] = NullPool
    loop = make_url(arguments["url"]).drivername in ("postgresql+asyncpg", "postgresql+psycopg_async")
    made = (create_async_engine if loop else create_engine)(arguments["url"], connect_args=connect, **options)
    engine = made.sync_engine if loop else made
    if settings.get("begin"):
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(settings["begin"]))
    return engine, loop


def ask(seat: Seat, who: str, nonce: str, times: int = 1) -> list[Any]:
    """Put *who*'s query, so many times in a transaction of their own; the last row is returned."""
    with seat.engine.connect() as connection:
        for _ in range(times):
            row = connection.execute(text(WHO[who]), {"nonce": nonce}).one()
        connection.commit()
    return list(row)


def look(seat: Seat, who: str, nonce: str) -> list[Any]:
    """Put *who*'s query, and do no more: no commit, and the connection is kept."""
    seat.held = seat.engine.connect()
    return list(seat.held.execute(text(WHO[who]), {"nonce": nonce}).one())


def leave(seat: Seat) -> None:
    """Close all of the client's connections."""
    seat.engine.dispose()


def run(seat: Seat, *statements: str) -> Any:
    """Run statements without parameters in one transaction that is committed; the last one's first value."""
    with seat.engine.connect() as connection:
        value = _run(connection, statements)
        connection.commit()
    return value


def begin(seat: Seat, *statements: str) -> Any:
    """Run statements, and leave the transaction open; without any, ask for the server connection's process id."""
    seat.held = seat.held or seat.engine.connect()
    return _run(seat.held, statements or ("select pg_backend_pid()",))


def end(seat: Seat) -> None:
    """Commit what :func:`begin` began, and give the connection back."""
    if seat.held:
        seat.held.commit()
        seat.held.close()
        seat.held = None


def _run(connection: Connection, statements: tuple[str, ...]) -> Any:
    for statement in statements:
        result = connection.exec_driver_sql(statement)
        value = result.scalar() if result.returns_rows else None
    return value


def _live(pipe: Any, arguments: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    engine, loop = engine_of(arguments, settings)
    seat = Seat(engine)
    if loop:
        asyncio.run(_live_in_a_loop(pipe, seat))
    while not loop:
        step, args = pipe.recv()
        pipe.send(_done(step, seat, *args))


async def _live_in_a_loop(pipe: Any, seat: Seat) -> None:
    while True:
        step, args = await asyncio.to_thread(pipe.recv)
        pipe.send(await greenlet_spawn(_done, step, seat, *args))


def _done(step: Step, seat: Seat, *args: Any) -> Answer:
    try:
        return Answer(step(seat, *args))
    except Exception as problem:
        return Answer(says=" ".join(spoken(problem).split()))
