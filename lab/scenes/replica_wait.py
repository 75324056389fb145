"""Someone writes to the primary; whoever reads from the standby waits for it first, or does not.

The caller holds the standby's replay before the scene; in the last part it goes on, after the reader has begun to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.scenes.routed import Page
from recipes.read_your_writes import position, wait_for

PATIENCE = 30


def main(primary: Mapping[str, Any], standby: Mapping[str, Any]) -> dict[str, Any]:
    """Return for each way to wait what became of it, whether it asked before the replay went on, and what was read.

    Args:
        primary: arguments of ``create_engine``; so is *standby*.
    """
    ways = {"no wait": None, "the replay stands still": 0.5, "the replay goes on": PATIENCE}
    return {way: _read(primary, standby, row, way, seconds) for row, (way, seconds) in enumerate(ways.items(), 1)}


def _read(
    primary: Mapping[str, Any], standby: Mapping[str, Any], row: int, way: str, seconds: float | None
) -> dict[str, Any]:
    leader, follower = create_engine(**primary), create_engine(**standby)
    with Session(leader) as session:
        session.get_one(Page, row).title = "new"
        session.commit()
    reached = position(leader)
    got = {"wait": "none", "says": "", "asked before": False}
    if seconds:
        asked = _first_question(follower)
        going_on = threading.Thread(target=_resume, args=(create_engine(**standby), asked, got), daemon=True)
        if resumes := way == "the replay goes on":
            going_on.start()
        try:
            wait_for(follower, reached, seconds)
            got["wait"] = "over"
            if resumes:
                going_on.join(PATIENCE)
        except TimeoutError as problem:
            got |= {"wait": "in vain", "says": spoken(problem).replace(reached, "LSN")}
    with Session(follower) as session:
        return {**got, "read": session.get_one(Page, row).title}


def _first_question(engine: Engine) -> threading.Event:
    answered = threading.Event()

    @event.listens_for(engine, "after_cursor_execute")
    def note(connection, cursor, statement, parameters, context, executemany):
        if "replay" in statement:
            answered.set()

    return answered


def _resume(standby: Engine, asked: threading.Event, got: dict[str, Any]) -> None:
    if asked.wait(PATIENCE):
        got["asked before"] = True
        with standby.connect() as connection:
            connection.execute(text("select pg_wal_replay_resume()"))
