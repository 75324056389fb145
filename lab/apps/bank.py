"""The bank: a server of a small line protocol with a database behind it, as the source asks for one.

A request is a line: ``NONCE READ account``, ``NONCE ADD account amount`` or ``NONCE TRANSFER from to amount``. It is
answered by a line: ``NONCE OK balance``, where the nonce has been to the database and back, ``NONCE NO reason`` or
``NONCE ERR message``. Each writing request leaves an entry with its nonce in the journal, in the same transaction.
The amounts are added in SQL, in the order of the accounts, so that nothing but the sharing of Sessions is at stake.

Run as ``python -m lab.apps.bank JSON``; it prints its port. https://stackoverflow.com/questions/6297404
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import String, create_engine, literal, select, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from lab.drivers import spoken
from recipes.threaded_server import Refused, Server


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


class Entry(Base):
    __tablename__ = "journal"
    nonce: Mapped[str] = mapped_column(String(20), primary_key=True)
    debit: Mapped[int | None]
    credit: Mapped[int]
    amount: Mapped[int]


def work(session: Session, line: str) -> str:
    """Do what *line* asks, but for the commit, and return the answer.

    Raises:
        Refused: there is no such account.
    """
    nonce, verb, *words = line.split()
    *others, account, amount = map(int, words) if verb != "READ" else (int(words[0]), 0)
    if verb != "READ":
        session.add(Entry(nonce=nonce, debit=others[0] if others else None, credit=account, amount=amount))
        for number, plus in sorted([(account, amount), *((number, -amount) for number in others)]):
            paid = update(Account).where(Account.id == number).values(balance=Account.balance + plus)
            if session.execute(paid).rowcount != 1:
                raise _refusal(nonce)
    found = session.execute(select(literal(nonce), Account.balance).where(Account.id == account)).one_or_none()
    if found is None:
        raise _refusal(nonce)
    return f"{found[0]} OK {found[1]}"


def _refusal(nonce: str) -> Refused:
    return Refused(f"{nonce} NO such account\n".encode())


Scope = Callable[[], contextlib.AbstractContextManager[Session]]


def shared(make_session: sessionmaker, *, rollback: bool = False, lock: Any = None) -> Scope:
    session = make_session()

    @contextlib.contextmanager
    def scope() -> Iterator[Session]:
        with lock or contextlib.nullcontext():
            try:
                yield session
            except BaseException:
                if rollback:
                    session.rollback()
                raise

    return scope


def per_request(make_session: sessionmaker, lock: Any = None) -> Scope:
    @contextlib.contextmanager
    def scope() -> Iterator[Session]:
        with lock or contextlib.nullcontext(), make_session() as session:
            yield session

    return scope


def registry(make_session: sessionmaker, end: str) -> Scope:
    sessions = scoped_session(make_session)

    @contextlib.contextmanager
    def scope() -> Iterator[Any]:
        try:
            yield sessions
        finally:
            if end:
                getattr(sessions, end)()

    return scope


SCOPES: dict[str, Callable[[sessionmaker], Scope]] = {
    "one Session": shared,
    "one Session, rollback on error": lambda make: shared(make, rollback=True),
    "one Session, one lock": lambda make: shared(make, rollback=True, lock=threading.Lock()),
    "a Session per request": per_request,
    "a Session per request, one lock": lambda make: per_request(make, threading.Lock()),
    "scoped_session, remove()": lambda make: registry(make, "remove"),
    "scoped_session, rollback()": lambda make: registry(make, "rollback"),
    "scoped_session, neither": lambda make: registry(make, ""),
}
RECIPE, ASYNC = "recipe threaded_server", "an AsyncSession per request"


def answer(scope: Scope, line: str) -> bytes:
    """Serve one request of the threads that are the bank's own."""
    try:
        with scope() as session:
            said = work(session, line)
            if " READ " not in line:
                session.commit()
    except Exception as problem:
        return _told(line, problem)
    return f"{said}\n".encode()


def _told(line: str, problem: Exception) -> bytes:
    if isinstance(problem, Refused):
        return problem.args[0]
    return f"{line.split()[0]} ERR {' '.join(spoken(problem).split())}\n".encode()


class Threads(socketserver.ThreadingTCPServer):
    """A thread for each connection, or one of a pool of so many *threads* that live on."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, scope: Scope, threads: int) -> None:
        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(answer(scope, line.decode()))

        super().__init__(("127.0.0.1", 0), Handler)
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._pool is None:
            return super().process_request(request, client_address)
        self._pool.submit(self.process_request_thread, request, client_address)


async def _asyncio(engine: Mapping[str, Any], pool: Mapping[str, Any]) -> None:
    make_session = async_sessionmaker(create_async_engine(**engine, **pool))

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := (await reader.readline()).decode():
            try:
                async with make_session.begin() as session:
                    said = f"{await session.run_sync(work, line)}\n".encode()
            except Exception as problem:
                said = _told(line, problem)
            writer.write(said)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0, backlog=128)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main(
    engine: Mapping[str, Any], scope: str, threads: int, waiting: int, pool: Mapping[str, Any], collect: bool
) -> None:
    """Serve until killed.

    Args:
        engine: arguments of ``create_engine``; ``pool`` those of its pool.
        scope: whose a Session is: a key of ``SCOPES``, ``RECIPE`` or ``ASYNC``.
        threads: how many serve; 0 is one for each connection.
        waiting: how many requests may wait for a thread of the recipe's.
        collect: whether the garbage collector may run.
    """
    if not collect:
        gc.disable()
    if scope == ASYNC:
        return asyncio.run(_asyncio(engine, pool))
    make_session = sessionmaker(create_engine(**engine, **pool))
    if scope == RECIPE:
        recipe = Server(("127.0.0.1", 0), _handle, make_session, workers=threads, waiting=waiting)
        print("port", recipe.address[1], flush=True)
        return recipe.run()
    with Threads(SCOPES[scope](make_session), threads) as server:
        print("port", server.server_address[1], flush=True)
        server.serve_forever(poll_interval=60)


def _handle(session: Session, line: bytes) -> bytes:
    return f"{work(session, line.decode())}\n".encode()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
