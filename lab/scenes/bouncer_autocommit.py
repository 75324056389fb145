"""A client in AUTOCOMMIT asks once; between its messages a PgBouncer serves somebody else.

A relay in front of PgBouncer passes the client's first message after it is closed, and keeps the next ones back: what
comes in one message cannot be interrupted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import make_url

from lab import pgbouncer
from lab.process import LabError, wait_until
from lab.scenes.bouncer_clients import Answer, Client, ask, begin, clients, look


class Gate:
    """Passes bytes between one client after the other and PgBouncer."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._armed = False
        self.messages, self.holding = 0, False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Keep back what comes after the client's next message."""
        self.messages, self._armed = 0, True
        self._open.clear()

    def open(self) -> None:
        self.holding = False
        self._open.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink in ((client, server), (server, client)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pump, args=(source, sink, source is client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asks and self._armed:
                    if self.messages:
                        self.holding = not self._open.is_set()
                        self._open.wait()
                    self.messages += 1
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        self._listener.close()
        self.open()


@contextlib.contextmanager
def _gate(target: int) -> Iterator[Gate]:
    gate = Gate(target)
    try:
        yield gate
    finally:
        gate.stop()


def main(
    arguments: Mapping[str, Any], plain: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return, by name of the settings and row, what became of the query, and in how many messages it was put.

    Args:
        arguments: of ``create_engine``, for PgBouncer with two server connections.
        plain: the same for a driver whose client holds a server connection.
        settings: by name, more arguments for the engine of who asks, and of who is served meanwhile.
    """
    port = make_url(arguments["url"]).port
    told: dict[str, dict[str, Any]] = {}
    for number, (name, more) in enumerate(settings.items()):
        told[name] = {}
        for row, play in ROWS.items():
            pool = f"{play.__name__}{number}"
            with (
                _gate(port) as gate,
                clients(1, {**arguments, "url": _at(gate.port, arguments["url"])}, more, pool=pool) as (a,),
                clients(1, arguments, more, pool=pool) as (b,),
                clients(1, plain, pool=pool) as (holder,),
            ):
                told[name][row] = play(gate, a, b, holder, lambda pool=pool: pgbouncer.pool(port, pool))
    return told


def _at(port: int, url: str) -> str:
    return make_url(url).set(port=port).render_as_string(False)


Pool = Callable[[], dict[str, Any]]


def _shared(gate: Gate, a: Client, b: Client, holder: Client, pool: Pool) -> dict[str, Any]:
    """There is one server connection for both, as the other one is held."""
    holder(begin)
    a(ask, "A", "before")
    b(ask, "B", "before")
    early = _first_message(gate, a)
    b.start(look, "B", "of B")
    served = wait_until(lambda: b.answer(0) or (pool()["cl_waiting"] and "waits"), "B is served, or waits")
    told = _last_messages(gate, a, early)
    others = b.answer(30) if served == "waits" else served
    return told | {"released": served != "waits", "B": others.says or "right"}


def _other(gate: Gate, a: Client, b: Client, holder: Client, pool: Pool) -> dict[str, Any]:
    """The server connection that took the first message is held when the second one comes."""
    used = a(ask, "A", "before").value[2]
    early = _first_message(gate, a)
    held = holder(begin).value
    return _last_messages(gate, a, early) | {"released": held == used, "B": "right"}


def _first_message(gate: Gate, a: Client) -> Answer | None:
    gate.close()
    a.start(ask, "A", "of A")
    found = wait_until(lambda: a.answer(0) or (gate.holding and "held"), "the first message")
    return None if found == "held" else found


def _last_messages(gate: Gate, a: Client, early: Answer | None) -> dict[str, Any]:
    gate.open()
    answer = early or a.answer(30)
    if answer is None:
        raise LabError("the query of A does not end")
    word = "error" if answer.says else "right" if answer.value[:2] == ["of A", "A"] else "wrong"
    return {"word": word, "says": [answer.says] * bool(answer.says), "messages": gate.messages}


ROWS = {"on the server connection of another": _shared, "on two server connections": _other}
