# SPDX-License-Identifier: 0BSD
# Recipe: threaded_server, version 1 (Forks, Threads and Sessions, /docs/recipes/#threaded-server)
"""A TCP server of lines: a bounded pool of worker threads, a Session per request, and "busy" when it is full.

Problem: a server with a thread for each connection has as many threads as it has clients, and all of them wait for the
few connections of the pool, until it raises TimeoutError; and what a thread forgets to close stays with it.

Use it when: clients send lines over TCP, and each line is to be answered by code that uses a Session.
Not when: the protocol is HTTP (take a web server), or requests wait for something slow other than the database.

``handle(session, line)`` runs in one of *workers* threads, with a Session and a transaction of its own, and returns the
reply. The transaction is committed before the reply is sent; what ``handle`` raises rolls it back, and the client is
told ``error``, or the words of :class:`Refused`. At most *waiting* more requests wait for a worker: the next one is
answered ``busy`` at once, and can be sent again later. Idle clients cost no thread. A connection's requests are served
one after the other; a line that is cut off is not served. A client that is lost between commit and reply does not know:
let requests carry a nonce, and store it.

SIGINT (Ctrl-C) and SIGTERM stop it: nothing new is begun, what has been accepted is finished and answered; a second
one does what it does by default. A request that waits for ever keeps it from stopping: set a statement timeout in the
database.

>>> import socket, tempfile, threading
>>> from sqlalchemy import create_engine, select, update
>>> from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
>>> class Base(DeclarativeBase): pass
>>> class Account(Base):
...     __tablename__ = "account"
...     id: Mapped[int] = mapped_column(primary_key=True)
...     balance: Mapped[int]
>>> engine = create_engine(f"sqlite:///{tempfile.mkdtemp()}/bank.db")
>>> Base.metadata.create_all(engine)
>>> make_session = sessionmaker(engine)
>>> with make_session.begin() as session:
...     session.add(Account(id=1, balance=100))
>>> def add(session, line):
...     session.execute(update(Account).values(balance=Account.balance + int(line)))
...     balance = session.scalars(select(Account.balance)).one()
...     if balance < 0:
...         raise Refused(b"not enough\\n")
...     return b"%d\\n" % balance
>>> server = Server(("127.0.0.1", 0), add, make_session, workers=5, waiting=20)
>>> thread = threading.Thread(target=server.run)  # in a program of its own: server.run()
>>> thread.start()
>>> with socket.create_connection(server.address) as client, client.makefile("rwb", 0) as lines:
...     for line in (b"50\\n", b"-200\\n", b"0\\n"):
...         _ = lines.write(line)
...         print(lines.readline())
b'150\\n'
b'not enough\\n'
b'150\\n'
>>> server.stop(); thread.join(); engine.dispose()

Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL and MariaDB. The question is
https://stackoverflow.com/questions/6297404
"""

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import StaticPool
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import Session

log = logging.getLogger("threaded_server")


class Refused(Exception):
    """Raised by a handler with the reply, in bytes: that is sent, and its transaction rolled back."""


class Server:
    """Listens at once; ``run()`` serves until ``stop()`` or a signal.

    Args:
        address: host and port; with port 0 the attribute ``address`` tells the kernel's choice.
        handle: called with a Session and a line with its newline; returns the reply.
        workers: how many threads, and so connections that are in use at most.
        waiting: how many requests may wait for a worker.
        idle: the seconds that a client may take to send a line, or to take its reply.
        clients: how many may be connected; the next is told ``busy`` and let go.

    Raises:
        ValueError: more workers than the pool has connections, or a number that is too small.
        OSError: the address is taken.
    """

    def __init__(
        self,
        address: tuple[str, int],
        handle: Callable[[Session, bytes], bytes],
        make_session: Callable[[], Session],
        *,
        workers: int,
        waiting: int = 0,
        idle: float = 60.0,
        clients: int = 500,
    ):
        if workers < 1 or waiting < 0 or idle <= 0 or clients < 1:
            raise ValueError("workers, idle and clients must be positive, and waiting must not be negative")
        _fit(workers, make_session)
        self._handle, self._make_session, self._idle, self._clients = handle, make_session, idle, clients
        self._workers, self._most, self._inside = workers, workers + waiting, 0
        self._connected, self._reading = set(), set()
        self._stopped, self._halt = threading.Event(), lambda: None
        self._socket = socket.create_server(address, backlog=128)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]

    def run(self) -> None:
        """Serve in this thread until it is stopped and has answered what it had accepted."""
        asyncio.run(self._run())

    def stop(self) -> None:
        """Ask it to stop, from any thread, and do not wait."""
        self._stopped.set()
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has stopped
            self._halt()

    async def _run(self) -> None:
        loop, halt = asyncio.get_running_loop(), asyncio.Event()
        self._halt = lambda: loop.call_soon_threadsafe(halt.set)
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # Windows, or not the main thread
            for one in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(one, lambda one=one: (loop.remove_signal_handler(one), self.stop()))
        with ThreadPoolExecutor(self._workers, "threaded_server") as self._pool:
            server = await asyncio.start_server(self._client, sock=self._socket)
            if not self._stopped.is_set():
                await halt.wait()
            server.close()
            for task in self._reading:
                task.cancel()
            await asyncio.gather(*self._connected, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connected) >= self._clients:
            writer.write(b"busy\n")
            return writer.close()
        self._connected.add(me := asyncio.current_task())
        try:
            while not self._stopped.is_set():
                self._reading.add(me)
                line = await asyncio.wait_for(reader.readline(), self._idle)
                self._reading.discard(me)
                reply = b"busy\n"
                if not line.endswith(b"\n"):
                    break  # gone, perhaps in the middle of a line
                if self._inside < self._most:
                    self._inside += 1
                    reply = await asyncio.get_running_loop().run_in_executor(self._pool, self._work, line)
                    self._inside -= 1
                writer.write(reply)
                await asyncio.wait_for(writer.drain(), self._idle)
        except (OSError, ValueError, asyncio.CancelledError):
            pass  # lost, idle, a line of more than 64 KiB, or it is to stop
        finally:
            self._connected.discard(me), self._reading.discard(me)
            writer.close()

    def _work(self, line: bytes) -> bytes:
        try:
            with self._make_session() as session, session.begin():
                reply = self._handle(session, line)
                if not isinstance(reply, bytes):
                    raise TypeError(f"the handler must return bytes, not {type(reply).__name__}")
            return reply
        except Refused as refusal:
            return refusal.args[0]
        except BaseException:  # sys.exit() in a handler must not end the server
            log.exception("a request failed and was rolled back")
            return b"error\n"


def _fit(workers: int, make_session: Callable[[], Session]) -> None:
    with make_session() as session, contextlib.suppress(UnboundExecutionError):  # bound by mapper, to several pools
        pool = session.get_bind().engine.pool
        overflow = getattr(pool, "_max_overflow", -1)
        most = 1 if isinstance(pool, StaticPool) else pool.size() + overflow if overflow >= 0 else workers
        if workers > most:
            raise ValueError(f"{workers} workers for a pool of {most} connections: raise pool_size or have fewer")
