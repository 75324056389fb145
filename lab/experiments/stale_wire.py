"""The second read of a row that has changed: which value the server sends, and which the object keeps (I3, I4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab import trace
from lab.databases import Database
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.shapes import Arm, Check, Setup, Trial
from lab.stage import databases, witnessed
from lab.swimlane import Event

SCENE = "lab.scenes.overtaken"
USES = ["lab/scenes/overtaken.py", "lab/stage.py", "lab/trace.py", "lab/swimlane.py"]


@experiment("stale-row-arrives-and-is-dropped", seeds=["I3", "I4"], uses=USES)
def wire(effort: Effort) -> Iterator[Arm]:
    rows = (
        ("psycopg2", "READ COMMITTED", "", "hazard", "new", "old"),
        ("PyMySQL", "REPEATABLE READ", "", "hazard", "old", "old"),
        ("psycopg2", "READ COMMITTED", "rollback", "remedy", "new", "new"),
        ("PyMySQL", "REPEATABLE READ", "rollback", "remedy", "new", "new"),
    )
    with databases() as database:
        for name, isolation, before, role, sent, says in rows:
            it = Setup(driver(name).database, name, isolation=isolation, held="held", remedy=before and f"{before}()")
            checks = [Check("sent", "==", sent), Check("object", "==", says)]
            title = ", ".join(filter(None, (name, isolation, it.remedy)))

            def run(it: Setup = it, before: str = before) -> Iterator[Trial]:
                yield from _read_again(it, database(it), before, effort.pick(5, 1))

            yield arm(title, role, it, checks, run)


def _read_again(it: Setup, database: Database, before: str, trials: int) -> Iterator[Trial]:
    """Facts: ``sent``, the value in the last row that the server sent to the reader; ``object``, what the object says;
    of the first trial the ``events``.
    """
    for trial in range(trials):
        settings = {**arguments(it.driver, database), "isolation_level": it.isolation}
        got, calls = witnessed(SCENE, database.port, settings=settings, before=before)
        events = _story(got, calls, database.port)
        rows = [event["text"] for event in events if (event["who"], event["op"]) == ("reader", "reads")]
        sent = [row.rpartition(", ")[2].split(";")[0] for row in rows if row.startswith("row ")]
        facts: dict[str, Any] = {"sent": sent[-1], "object": got["object"]}
        if trial == 0:
            facts["events"] = events
        yield Trial(facts=facts)


def _story(got: dict[str, Any], calls: list[trace.Call], port: int) -> list[Event]:
    """What both said, from the reader's first words on; of the writer, from the statement that changes the row."""
    names = {got["reader"]: "reader", got["writer"]: "writer"}
    told = [call for call in calls if got["began"] <= call.t <= got["ended"]]
    start = min(call.t for call in told)
    events = trace.events(told, port, names, lambda data: [])
    change = next(n for n, event in enumerate(events) if event["text"].startswith("UPDATE"))
    kept = [event for n, event in enumerate(events) if event["who"] == "reader" or n >= change]
    for event in kept:
        # Each has a socket of its own here, so that what is read answers what its reader asked.
        event["owner"] = event["who"]
        # Which row it is, is known, and the picture is narrow.
        event["text"] = event["text"].partition(" WHERE ")[0]
    notes = [{"t": t - start, "who": who, "op": "note", "text": text} for t, who, text in got["notes"]]
    found = sorted([*kept, *notes], key=lambda event: event["t"])
    return [{**event, "t": round(event["t"], 6)} for event in found if event["op"] != "sleeps"]
