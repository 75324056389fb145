"""What scenes are played with: databases that the arms of an experiment share, and a witness of who sends what."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from lab import components, trace
from lab.databases import Database, start
from lab.process import folder, play
from lab.shapes import Setup


@contextlib.contextmanager
def databases() -> Iterator[Callable[[Setup], Database]]:
    """A function from a setup to its database. Each kind is started once, when it is first asked for.

    One that can do TLS takes plain clients too. A setup that asks for TLS where it cannot be had raises
    :class:`components.Missing`.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def started(kind: str) -> Database:
            tls = kind == "mariadb" or bool(components.find("postgresql-tls"))
            return stack.enter_context(start(kind, tls=tls))

        def database(it: Setup) -> Database:
            if it.tls and it.database == "postgresql":
                components.need("postgresql-tls")
            return started(it.database)

        yield database


def witnessed(scene: str, port: int, **arguments: Any) -> tuple[dict[str, Any], list[trace.Call]]:
    """As :func:`lab.process.play`, with the calls on connections to *port* that strace saw."""
    with folder() as home:
        path = home / "trace"
        got = play(scene, under=trace.strace(path), **arguments)
        return got, [call for call in trace.parse(path.read_text()) if call.remote == port]


def sent(calls: Iterable[trace.Call], by: Collection[int], over: Collection[int]) -> list[str]:
    """What the processes *by* wrote on the connections whose local ports are *over*, in words."""
    written = [call for call in calls if call.call in trace.WRITES and call.pid in by and call.local in over]
    return [trace.meaning(call.data, question=True) for call in written]
