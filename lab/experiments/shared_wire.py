"""The lost write on the wire: over which socket A's change and B's rollback go, and what A's commit sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab import trace
from lab.databases import Database
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.scenes.shared_money import EACH, ONE
from lab.shapes import Arm, Check, Role, Setup, Trial
from lab.stage import databases, witnessed
from lab.swimlane import Event

SCENE = "lab.scenes.shared_wire"
USES = [
    "lab/scenes/shared_wire.py", "lab/scenes/shared_money.py", "lab/scenes/shared_lanes.py",
    "lab/stage.py", "lab/trace.py", "lab/swimlane.py",
]  # fmt: skip
# After it, some drivers have the pool's ROLLBACK.
FIRST = "A's commit() sends first"
EXPECTED: dict[str, tuple[Role, dict[str, Any]]] = {
    ONE: ("hazard", {"sockets": 1, FIRST: "nothing", "A is told": "OK", "balance": 100}),
    EACH: ("remedy", {"sockets": 2, FIRST: "COMMIT", "A is told": "OK", "balance": 150}),
}


@experiment("shared-session-rollback-on-the-wire", seeds=["T3"], uses=USES)
def wire(effort: Effort) -> Iterator[Arm]:
    """Facts: ``sockets``, over how many A and B speak; what A's commit() sends; what A ``is told``; the ``balance``
    that is stored; of the first trial the ``events``.
    """
    with databases() as database:
        for name in ("psycopg2", "PyMySQL"):
            for scope, (role, facts) in EXPECTED.items():
                it = Setup(driver(name).database, name, scope=scope)
                checks = [Check(field, "==", value) for field, value in facts.items()]

                def run(it: Setup = it) -> Iterator[Trial]:
                    yield from _traced(it, database(it), effort.pick(5, 1))

                yield arm(f"{name}, {scope}", role, it, checks, run)


def _traced(it: Setup, database: Database, trials: int) -> Iterator[Trial]:
    for trial in range(trials):
        got, calls = witnessed(SCENE, database.port, engine=arguments(it.driver, database), scope=it.scope)
        events = _story(got, calls, database.port)
        called = next(n for n, event in enumerate(events) if event["text"] == "commit() is called")
        sent = [event["text"] for event in events[called:] if event["op"] == "writes"]
        facts: dict[str, Any] = {
            "sockets": len({event["socket"] for event in events if event["op"] == "writes"}),
            FIRST: next(iter(sent), "nothing"),
            "A is told": got["A is told"],
            "balance": got["stored"][0],
        }
        if trial == 0:
            facts["events"] = events
        yield Trial(facts=facts)


def _story(got: dict[str, Any], calls: list[trace.Call], port: int) -> list[Event]:
    """What the two threads said and heard between the first statement and the end of A's commit()."""
    names = {thread: lane for lane, thread in got["threads"].items()}
    told = [call for call in calls if got["began"] <= call.t <= got["ended"] and call.pid in names]
    start = min(call.t for call in told)
    events = trace.events(told, port, names, lambda data: [])
    # One speaks at a time on a socket here, so that what is read answers what was written last.
    speaker: dict[str, str] = {}
    for event in events:
        if event["op"] == "writes":
            speaker[event["socket"]] = event["who"]
        event["owner"] = speaker.get(event["socket"], "")
        # Which columns and which row are known, and the picture is narrow.
        event["text"] = (
            event["text"]
            .partition(" FROM ")[0]
            .partition(" WHERE ")[0]
            .replace("shared_account.", "")
            .replace("shared_account ", "")
        )
    notes = [{"t": t - start, "who": who, "op": "note", "text": text} for t, who, text in got["notes"]]
    found = sorted([*events, *notes], key=lambda event: event["t"])
    return [{**event, "t": round(event["t"], 6)} for event in found if event["op"] != "sleeps"]
