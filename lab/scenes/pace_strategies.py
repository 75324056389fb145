"""Many clients, one piece of work each at a time, and the ways to let them at the database: a lock, pools, workers."""

from __future__ import annotations

import asyncio
import itertools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, TextClause, create_engine, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import spoken

# A client asks for its own words back, and for the server's time.
STATEMENT = {"postgresql": "select cast(:nonce as varchar), {work}", "mariadb": "select :nonce, {work}"}
SMALL = text("select 42")
PATIENCE = 120
# Seconds before a client asks again: its answer and its next question are on their way. Who goes to the back of a
# queue needs no way.
PAUSE = 0.001


@dataclass(frozen=True)
class Strategy:
    """How clients come to a connection.

    Attributes:
        kind: ``one session``, ``lock``, ``pool``, ``workers``, ``scoped``, ``processes`` or ``asyncio``.
        width: how many connections there may be, over all processes.
        overflow: how many of them are beyond the size of the pool.
        processes: over how many processes the width is spread.
    """

    kind: str
    width: int
    overflow: int = 0
    processes: int = 1

    @property
    def pool(self) -> dict[str, int]:
        return {"pool_size": self.width - self.overflow, "max_overflow": self.overflow, "pool_timeout": PATIENCE}


STRATEGIES = {
    "one Session, one lock": Strategy("one session", 1),
    "one lock": Strategy("lock", 1),
    **{f"pool of {width}": Strategy("pool", width) for width in (1, 2, 5, 10, 20, 50)},
    "scoped_session, pool 5+10": Strategy("scoped", 15, overflow=10),
    **{f"{width} workers": Strategy("workers", width) for width in (5, 10, 20)},
    "4 processes of 5 workers": Strategy("processes", 20, processes=4),
    **{f"asyncio, pool of {width}": Strategy("asyncio", width) for width in (10, 20, 50)},
}


@dataclass
class Watch:
    """What was asked and answered. ``order`` has the tickets in the order in which they got a connection."""

    asked: int = 0
    order: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    inside: int = 0
    most: int = 0
    mutex: Any = field(default_factory=threading.Lock)

    def ask(self, client: int, number: int) -> Request:
        with self.mutex:
            self.asked += 1
            return Request(client, number, self.asked, time.monotonic())

    @contextmanager
    def holding(self, ticket: int) -> Iterator[None]:
        """The bearer of *ticket* has a connection, and works."""
        with self.mutex:
            self.order.append(ticket)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            yield
        finally:
            with self.mutex:
                self.inside -= 1

    def answered(self, request: Request, right: bool | str) -> None:
        with self.mutex:
            self.outcomes[right if isinstance(right, str) else "right" if right else "wrong"] += 1
            self.seconds.append(time.monotonic() - request.asked)


@dataclass(frozen=True)
class Request:
    client: int
    number: int
    ticket: int
    asked: float

    @property
    def nonce(self) -> str:
        return f"client {self.client}, request {self.number}"


@dataclass(frozen=True)
class Load:
    """So many clients put so many requests each, one after the other; each runs *statement*, and a small one."""

    clients: range
    requests: int
    statement: str


# Puts the whole load, and returns when all is answered.
Run = Callable[[], object]


def transact(session: Session, watch: Watch, statement: TextClause, request: Request) -> bool:
    """One transaction. Returns whether both answers were the right ones."""
    session.connection()
    with watch.holding(request.ticket):
        answer = session.execute(statement, {"nonce": request.nonce}).one()[0]
        small = session.scalar(SMALL)
    session.commit()
    return answer == request.nonce and small == 42


def ways(strategy: Strategy, engine: Engine, load: Load, watch: Watch) -> Callable[[Request], None]:
    """How a thread serves a request under *strategy*."""
    statement, lock = text(load.statement), threading.Lock()
    make, registry = sessionmaker(engine), scoped_session(sessionmaker(engine))
    only = make()

    def shared(request: Request) -> bool:
        with lock:
            return transact(only, watch, statement, request)

    def locked(request: Request) -> bool:
        with lock, make() as session:
            return transact(session, watch, statement, request)

    def pooled(request: Request) -> bool:
        with make() as session:
            return transact(session, watch, statement, request)

    def scoped(request: Request) -> bool:
        try:
            return transact(registry(), watch, statement, request)
        finally:
            registry.remove()

    serve = {"one session": shared, "lock": locked, "scoped": scoped}.get(strategy.kind, pooled)

    def served(request: Request) -> None:
        try:
            right: bool | str = serve(request)
        except Exception as problem:
            right = spoken(problem)
        watch.answered(request, right)

    return served


def threads(load: Load, watch: Watch, serve: Callable[[Request], None]) -> None:
    """A thread for each client."""

    def client(who: int) -> None:
        for number in range(load.requests):
            serve(watch.ask(who, number))
            time.sleep(PAUSE)

    together([lambda who=who: client(who) for who in load.clients])


def workers(width: int, load: Load, watch: Watch, serve: Callable[[Request], None]) -> None:
    """So many threads for all clients, who stand in a queue."""
    waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
    left = itertools.count(len(load.clients) * load.requests - 1, -1)
    for who in load.clients:
        waiting.put(watch.ask(who, 0))

    def worker() -> None:
        while request := waiting.get():
            serve(request)
            if request.number + 1 < load.requests:
                waiting.put(watch.ask(request.client, request.number + 1))
            if not next(left):
                for _ in range(width):
                    waiting.put(None)

    together([worker] * width)


def together(jobs: list[Callable[[], object]]) -> None:
    running = [threading.Thread(target=job, daemon=True) for job in jobs]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@contextmanager
def threaded(strategy: Strategy, settings: Mapping[str, Any], load: Load, watch: Watch) -> Iterator[Run]:
    """The run of a strategy of threads; all that the pool keeps is connected before."""
    engine = create_engine(**settings, **strategy.pool)
    kept = [engine.connect() for _ in range(strategy.pool["pool_size"])]
    for connection in kept:
        connection.close()
    serve = ways(strategy, engine, load, watch)
    try:
        if strategy.kind in ("workers", "processes"):
            yield lambda: workers(strategy.width, load, watch, serve)
        else:
            yield lambda: threads(load, watch, serve)
    finally:
        engine.dispose()


@contextmanager
def tasks(strategy: Strategy, settings: Mapping[str, Any], load: Load, watch: Watch) -> Iterator[Run]:
    """The run of a task for each client, in one event loop; all that the pool keeps is connected before."""
    statement = text(load.statement)
    engine = create_async_engine(**settings, **strategy.pool)

    async def transaction(request: Request) -> bool:
        async with AsyncSession(engine) as session:
            await session.connection()
            with watch.holding(request.ticket):
                answer = (await session.execute(statement, {"nonce": request.nonce})).one()[0]
                small = await session.scalar(SMALL)
            await session.commit()
            return answer == request.nonce and small == 42

    async def client(who: int) -> None:
        for number in range(load.requests):
            request = watch.ask(who, number)
            try:
                right: bool | str = await transaction(request)
            except Exception as problem:
                right = spoken(problem)
            watch.answered(request, right)
            await asyncio.sleep(PAUSE)

    async def connect() -> None:
        for connection in [await engine.connect() for _ in range(strategy.width)]:
            await connection.close()

    async def run() -> None:
        await asyncio.gather(*map(client, load.clients))

    with asyncio.Runner() as runner:
        runner.run(connect())
        try:
            yield lambda: runner.run(run())
        finally:
            runner.run(engine.dispose())
