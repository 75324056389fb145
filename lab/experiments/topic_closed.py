"""A Session that is used after its end: does it begin anew, and what does ``close_resets_only=False`` change?"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from lab.databases import start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.topic_closed import ENDS, USES
from lab.shapes import Arm, Check, Setup, Trial

SCENE = "lab.scenes.topic_closed"
DRIVERS = {"postgresql": "psycopg2", "mariadb": "PyMySQL"}
HAZARDS = ("close()", "with block", "with block, streamed")
# What begins anew with either setting.
AGAIN = ("reset(), and close()", "scoped_session.remove(), twice")
ONCE = "close_resets_only=False"
REFUSED = (
    "sqlalchemy.exc.InvalidRequestError: This Session has been permanently closed and is unable to handle any more "
    "transaction requests."
)


@experiment("closed-session-reopens", uses=["lab/scenes/topic_closed.py"])
def closed_session_reopens(effort: Effort) -> Iterator[Arm]:
    """Facts: those of the scene."""
    for kind, name in DRIVERS.items():
        for end in ENDS:
            for use in USES:
                hazard = end in HAZARDS
                out = int(hazard)
                checks = [Check("answered", "==", True), Check("checked_out", "==", out), Check("open", "==", out)]
                setup = Setup(kind, name, held=end, read=use)
                run = functools.partial(_trials, kind, False, end, use, effort)
                yield arm(f"{name}, {end}, {use}", "hazard" if hazard else "control", setup, checks, run)
        for end in (*HAZARDS, *AGAIN):
            for use in USES:
                out = [Check("checked_out", "==", 0), Check("open", "==", 0)]
                said = Check("answered", "==", True) if end in AGAIN else Check("raised", "==", REFUSED)
                setup = Setup(kind, name, held=end, read=use, remedy=ONCE)
                run = functools.partial(_trials, kind, True, end, use, effort)
                role = "control" if end in AGAIN else "remedy"
                yield arm(f"{name}, {end}, {use}, {ONCE}", role, setup, [said, *out], run)


def _trials(kind: str, once: bool, end: str, use: str, effort: Effort) -> list[Trial]:
    return [Trial(facts=seen) for seen in _played(kind, effort.pick(5, 1))[once][end][use]]


@functools.cache
def _played(kind: str, trials: int) -> dict[bool, Any]:
    with start(kind) as database:
        engine = arguments(DRIVERS[kind], database)
        return {once: play(SCENE, engine=engine, once=once, trials=trials) for once in (False, True)}
