"""What a request costs this process in CPU time, with each recipe for threads and tasks and without."""

from __future__ import annotations

import asyncio
import atexit
import socket
import socketserver
import threading
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from lab.scenes.session_overhead import by_call, has_answered, prepare, two_statements
from lab.scenes.staleness import Page
from lab.turns import Do, take_turns
from recipes.leak_watch import LeakWatch
from recipes.retry_transaction import retry
from recipes.scoped_registry import SessionRegistry
from recipes.task_session import gather_in_sessions
from recipes.thread_session import OneThread, in_session
from recipes.threaded_server import Server

WARM_UP = 20
# With more, it is a matter of chance how many connections are opened, and with that how many bytes are sent.
AT_A_TIME = 1


def _with(engine: Engine, **options: Any) -> Do:
    make_session = sessionmaker(engine, **options)

    def view() -> str:
        with make_session() as session, session.begin():
            return two_statements(session)

    return by_call(view)


def _per_query(engine: Engine) -> Do:
    make_session = sessionmaker(engine)

    def view() -> str:
        with make_session.begin() as session:
            body = session.get_one(Page, 1).body
        with make_session.begin() as session:
            return body if session.get(Page, 2) is None else ""

    return by_call(view)


def _scoped(engine: Engine) -> Do:
    registry = scoped_session(sessionmaker(engine))

    def view() -> str:
        try:
            return two_statements(registry())
        finally:
            registry.remove()

    return by_call(view)


def _registry(engine: Engine) -> Do:
    registry = SessionRegistry(sessionmaker(engine))

    def view() -> str:
        with registry.scope():
            return two_statements(registry)

    return by_call(view)


def _retry(engine: Engine) -> Do:
    make_session = sessionmaker(engine)
    return by_call(lambda: retry(make_session, two_statements))


def _watched(engine: Engine) -> Do:
    LeakWatch(engine)
    return _with(engine)


def _gather(engine: Engine) -> Do:
    make_session, loop = sessionmaker(engine), asyncio.new_event_loop()

    def view() -> str:
        with make_session() as session, session.begin():
            return two_statements(session)

    async def gather(times: int) -> None:
        allowed = asyncio.Semaphore(AT_A_TIME)

        async def one() -> str:
            async with allowed:
                return await asyncio.to_thread(view)

        for body in await asyncio.gather(*(one() for _ in range(times))):
            has_answered(body)

    return lambda times: loop.run_until_complete(gather(times))


def _gather_in_sessions(engine: Engine) -> Do:
    make_session, loop = sessionmaker(engine), asyncio.new_event_loop()

    async def gather(times: int) -> None:
        found = await gather_in_sessions(
            make_session, lambda session, _: two_statements(session), range(times), at_most=AT_A_TIME
        )
        for body in found:
            has_answered(body)

    return lambda times: loop.run_until_complete(gather(times))


def _by_client(address: tuple[str, int]) -> Do:
    """One client that has one request answered after the other; its CPU time is in the count."""
    lines = socket.create_connection(address).makefile("rwb", 0)

    def do(times: int) -> None:
        for _ in range(times):
            lines.write(b"read\n")
            has_answered(lines.readline().decode().strip())

    return do


def _threading_server(engine: Engine) -> Do:
    make_session = sessionmaker(engine)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                with make_session() as session, session.begin():
                    reply = f"{two_statements(session)}\n".encode()
                self.wfile.write(reply)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return _by_client(server.server_address)


def _threaded_server(engine: Engine) -> Do:
    server = Server(
        ("127.0.0.1", 0), lambda session, line: f"{two_statements(session)}\n".encode(), sessionmaker(engine), workers=5
    )
    threading.Thread(target=server.run, daemon=True).start()
    atexit.register(server.stop)
    return _by_client(server.address)


# Each recipe stands beside what is written without it, under ``BESIDE``.
WAYS: dict[str, Callable[[Engine], Do]] = {
    "with Session()": _with,
    "in_session": lambda engine: by_call(in_session(sessionmaker(engine))(two_statements)),
    "OneThread": lambda engine: _with(engine, class_=OneThread),
    "retry_transaction": _retry,
    "leak_watch": _watched,
    "a Session for each query": _per_query,
    "scoped_session, remove()": _scoped,
    "scoped_registry": _registry,
    "gather, to_thread": _gather,
    "task_session": _gather_in_sessions,
    "ThreadingTCPServer": _threading_server,
    "threaded_server": _threaded_server,
}
BESIDE = {
    "in_session": "with Session()",
    "OneThread": "with Session()",
    "retry_transaction": "with Session()",
    "leak_watch": "with Session()",
    "a Session for each query": "with Session()",
    "scoped_registry": "scoped_session, remove()",
    "task_session": "gather, to_thread",
    "threaded_server": "ThreadingTCPServer",
}


def main(
    engines: Mapping[str, Mapping[str, Any]], setup: Mapping[str, Any], rounds: int, requests: int
) -> dict[str, Any]:
    """Return for each round the CPU time per request of each way, in microseconds.

    Args:
        engines: arguments of ``create_engine`` for each way; ``setup`` are those for what is done before.
        rounds: how often the ways take turns.
        requests: how many in each way and round.
    """
    prepare(setup)
    doing = {}
    made = {way: create_engine(**engines[way]) for way in WAYS}
    for way, make in WAYS.items():
        doing[way] = make(made[way])
        doing[way](WARM_UP)
    rows = take_turns(doing, rounds, requests)
    # Whether a connection says goodbye as the interpreter ends is chance.
    for engine in made.values():
        engine.dispose()
    return {"rounds": rows}
