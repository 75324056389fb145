"""What scenes are played with: databases that the arms of an experiment share, and a witness of who sends what."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from lab import components, trace
from lab.databases import Database, start
from lab.process import folder, play
from lab.shapes import Setup
from lab.swimlane import Event


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


def story(got: Mapping[str, Any], calls: Sequence[trace.Call], port: int) -> list[Event]:
    """The events of a swim lane on the parent's socket, from its BEGIN to the answer to its COMMIT.

    *got* is what :mod:`lab.scenes.split` returned; the notes that it took stand between the events.
    """
    names = {got["parent"]: "parent", got["child"]: "child"}
    events = trace.events(calls, port, names, lambda data: [])
    start = min(call.t for call in calls if call.call in trace.WRITES)
    inserts = next(n for n, event in enumerate(events) if "INSERT" in event["text"])
    told = [event for event in events[inserts - 2 :] if event["socket"] == events[inserts]["socket"]]
    commits = next((n for n, event in enumerate(told) if event["text"] == "COMMIT"), len(told))
    told = told[: commits + 2]
    # One speaks at a time here, so that what is read answers what was written last.
    speaker = ""
    for event in told:
        speaker = event["who"] if event["op"] == "writes" else speaker
        event["owner"] = speaker
    notes = [{"t": t - start, "who": who, "op": "note", "text": text} for t, who, text in got["notes"]]
    found = sorted([*told, *notes], key=lambda event: event["t"])
    return [{**event, "t": round(event["t"] - found[0]["t"], 6)} for event in found]
