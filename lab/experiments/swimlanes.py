"""Who wrote what on the shared socket, and who read whose answer, traced under a real uWSGI (U4)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
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

DRIVERS = ("psycopg", "psycopg2")
# Of a load the first moments are enough, and a trace of more is long to read.
REQUESTS = 40
STARTS = 20
# What a reader can follow in one picture.
LONGEST = 24
NONCE = re.compile(rb"n\d{6}")


@experiment("uwsgi-who-read-whose-reply", seeds=["U4"], uses=["lab/trace.py", "lab/swimlane.py", *SOURCES])
def who_read_whose_reply(effort: Effort) -> Iterator[Arm]:
    wrong = [Check("wrong", ">=", 1), Check("misread", ">=", 1)]
    clean = [Check("wrong", "==", 0), Check("misread", "==", 0), Check("error", "==", 0), Check("right", ">=", 1)]
    for role, remedy, checks in (("hazard", "none", wrong), ("control", "lazy-apps", clean)):
        for name in DRIVERS[: effort.pick(2, 1)]:
            it = replace(setup(name, remedy=remedy), requests=REQUESTS)
            trials = effort.pick(5, 1)
            yield arm(label(it), role, it, checks, lambda it=it, n=trials: _traced(it, n))


def _traced(it: Setup, trials: int) -> Iterator[Trial]:
    """Trace fresh starts until one shows how a wrong answer came about, or for a remedy one start.

    Facts: ``misread``, how often a worker read an answer to another's question; ``starts``, how many it took; and, of
    the first trial, the ``events`` that led to a wrong answer.
    """
    with start(it.database) as database:
        for trial in range(trials):
            starts, story = 0, []
            while not story and starts < (STARTS if it.remedy == "none" else 1):
                tally, misreads, story = _under_load(it, database)
                starts += 1
            facts: dict[str, Any] = {"misread": misreads, "starts": starts}
            if trial == 0 and story:
                facts["events"] = story
            yield Trial(tally, facts=facts)
            database.check()


def _under_load(it: Setup, database: Database) -> tuple[Tally, int, list[Event]]:
    settings = {"engine": arguments(it.driver, database), "database": it.database, "remedy": it.remedy}
    options = REMEDIES[it.remedy].options
    with folder() as home:
        path = home / "trace"
        with uwsgi(APP, workers=it.workers, settings=settings, options=options, trace=path) as server:
            names = {worker["pid"]: f"worker {worker['id']}" for worker in server.status()["workers"]}
            answers = load.fire(server.port, it.requests, concurrency=it.concurrency)
        calls = trace.parse(path.read_text())
    events = trace.events(calls, database.port, names, trace.askers(calls, database.port, names, NONCE))
    lied = {names.get(answer.pid, "") for answer in answers if answer.outcome.kind == "wrong"}
    return load.tally(answers), sum(bool(misread(event)) for event in events), _story(events, lied)


def _story(events: Sequence[Event], lied: Collection[str]) -> list[Event]:
    """The events that led to a wrong answer, from when nobody waited; none if they are too many to follow.

    Args:
        lied: the workers that gave wrong answers to clients.
    """
    end = next((n for n, event in enumerate(events) if event["who"] in lied and _misled(event, events[:n])), None)
    if end is None:
        return []
    led = [event for event in events[: end + 1] if event["socket"] == events[end]["socket"]]
    story = led[_in_step(led) :]
    return [{**event, "t": round(event["t"] - story[0]["t"], 6)} for event in story] if len(story) <= LONGEST else []


def _in_step(events: Sequence[Event]) -> int:
    """The position of the last event before which nobody waited for an answer."""
    waiting: set[str] = set()
    last = 0
    for n, event in enumerate(events):
        if not waiting:
            last = n
        if event["op"] == "writes":
            waiting.add(event["who"])
        else:
            waiting.discard(event["who"])
    return last


def _misled(event: Event, before: Sequence[Event]) -> bool:
    """Tell whether the reader, whose last words were a question, got the answer to another's and not its own."""
    words = next((e["text"] for e in reversed(before) if (e["who"], e["op"]) == (event["who"], "writes")), "")
    own = event["who"] in event["owner"].split("+")
    return bool(misread(event)) and not own and NONCE.search(words.encode()) is not None
