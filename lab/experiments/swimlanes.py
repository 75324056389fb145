"""Who wrote what on the shared socket, and who read whose answer, traced under a real uWSGI (U4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from lab import load, trace
from lab.databases import Database, start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import folder
from lab.remedies import REMEDIES
from lab.servers import uwsgi
from lab.shapes import Arm, Check, Setup, Tally, Trial
from lab.swimlane import Event, misread
from lab.trials import APP, SOURCES, label, setup

# Of a load the first moments are enough, and a trace of more is long to read.
REQUESTS = 40
STARTS = 10
# What a reader can follow in one picture.
LONGEST = 24
NONCE = re.compile(rb"n\d{6}")


@experiment("uwsgi-who-read-whose-reply", seeds=["U4"], uses=["lab/trace.py", "lab/swimlane.py", *SOURCES])
def who_read_whose_reply(effort: Effort) -> Iterator[Arm]:
    wrong = [Check("wrong", ">=", 1), Check("misread", ">=", 1)]
    clean = [Check("bad", "==", 0), Check("misread", "==", 0), Check("total", "==", REQUESTS)]
    for name in ("psycopg2", "PyMySQL"):
        for role, remedy, checks in (("hazard", "none", wrong), ("control", "lazy-apps", clean)):
            it = replace(setup(name, remedy=remedy), requests=REQUESTS)
            trials = effort.pick(5, 1)
            yield arm(label(it), role, it, checks, lambda it=it, n=trials: _traced(it, n))


def _traced(it: Setup, trials: int) -> Iterator[Trial]:
    """Trace fresh starts until one gives a wrong answer, or for a remedy one of them.

    Facts: ``misread``, how often a worker read an answer to another's question; ``starts``, how many it took; and, of
    the first trial, the ``events`` that led to the first wrong answer.
    """
    with start(it.database) as database:
        for trial in range(trials):
            starts, picture = 0, []
            while not picture and starts < (STARTS if it.remedy == "none" else 1):
                tally, events = _under_load(it, database)
                picture = _until_wrong(events) if tally.wrong else []
                starts += 1
            facts: dict[str, Any] = {"misread": sum(bool(misread(event)) for event in events), "starts": starts}
            if trial == 0 and picture:
                facts["events"] = picture
            yield Trial(tally, facts=facts)


def _under_load(it: Setup, database: Database) -> tuple[Tally, list[Event]]:
    settings = {"engine": arguments(it.driver, database), "database": it.database, "remedy": it.remedy}
    options = REMEDIES[it.remedy].options
    with folder() as home:
        path = home / "trace"
        with uwsgi(APP, workers=it.workers, settings=settings, options=options, trace=path) as server:
            names = {worker["pid"]: f"worker {worker['id']}" for worker in server.status()["workers"]}
            answers = load.fire(server.port, it.requests, concurrency=it.concurrency)
        calls = trace.parse(path.read_text())
    owners = trace.askers(calls, database.port, names, NONCE)
    return load.tally(answers), trace.events(calls, database.port, names, owners)


def _until_wrong(events: Sequence[Event]) -> list[Event]:
    """The events that led to the first wrong answer: a worker that awaits its own reads another's.

    They begin when nobody waited for an answer, or as late as they must to be few enough.
    """
    wrong = next((n for n, event in enumerate(events) if misread(event) and _awaits_own(events[:n], event)), None)
    if wrong is None:
        return []
    led = [event for event in events[: wrong + 1] if event["socket"] == events[wrong]["socket"]]
    led = led[max(_in_step(led), len(led) - LONGEST) :]
    return [{**event, "t": round(event["t"] - led[0]["t"], 6)} for event in led]


def _awaits_own(before: Sequence[Event], event: Event) -> bool:
    """Tell whether the last thing that the reader wrote was a question of its own, and this does not answer it."""
    asked = next((e for e in reversed(before) if e["who"] == event["who"] and e["op"] == "writes"), None)
    questioned = asked is not None and NONCE.search(asked["text"].encode())
    return bool(questioned) and event["who"] not in event["owner"].split("+")


def _in_step(events: Sequence[Event]) -> int:
    """The position of the last event before which nobody waited for an answer."""
    waiting: set[str] = set()
    begin = 0
    for n, event in enumerate(events):
        if not waiting:
            begin = n
        if event["op"] == "writes":
            waiting.add(event["who"])
        else:
            waiting.discard(event["who"])
    return begin
