"""How many transactions does a strategy let into the server at once, by the server's own count?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from lab.process import LabError, wait_until
from lab.scenes.pace import crew, put
from lab.scenes.pace_strategies import STATEMENT, STRATEGIES, Load, Watch

# Whoever reads the table waits, on the server, for as long as somebody else has it locked.
WORK = "(select min(id) from gate)"
LOCK = {"postgresql": ("lock table gate", "select 1"), "mariadb": ("lock tables gate write", "unlock tables")}
WAITING = {
    "postgresql": "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = 'postgres'",
    "mariadb": "select count(*) from information_schema.processlist where state like 'Waiting for table %'",
}
# For how long a further one may come.
LONGER = 0.3


def main(engines: Mapping[str, Mapping[str, Any]], kind: str, names: list[str], clients: int, trials: int) -> dict:
    """Let *clients* put a request each, whose statement does not end before the server has said how many wait in it.

    Args:
        engines: arguments of ``create_engine`` for ``threads`` and, if it is among *names*, for ``asyncio``.
        kind: of database.
        names: of strategies.

    Returns:
        A list of trials, each by strategy: ``inside``, the most that the server had in the statement at once;
        ``asked``, how many clients had asked by then (None if they are in other processes); ``outcomes``, what they
        were answered in the end.
    """
    own = create_engine(**engines["threads"], poolclass=NullPool)
    with own.begin() as connection:
        connection.execute(text("create table gate (id integer)"))
    load = Load(range(clients), 1, STATEMENT[kind].format(work=WORK))
    with (
        crew([STRATEGIES[name] for name in names], engines["threads"]) as processes,
        own.connect().execution_options(isolation_level="AUTOCOMMIT") as asking,
    ):

        def play(name: str) -> dict[str, Any]:
            strategy, watch = STRATEGIES[name], Watch()
            several = strategy.processes > 1
            with ThreadPoolExecutor(1) as caller:
                with _locked(own.connect(), kind):
                    parts = caller.submit(put, strategy, engines, load, watch, processes)
                    inside = _most_inside(asking, kind, strategy.width, watch, 0 if several else clients)
                outcomes = sum((Counter(part["outcomes"]) for part in parts.result()), Counter())
            return {"inside": inside, "asked": None if several else watch.asked, "outcomes": dict(outcomes)}

        for strategy in filter(lambda each: each.processes > 1, map(STRATEGIES.get, names)):
            # Interpreters take their time to start, and not that of the first trial.
            put(strategy, engines, replace(load, statement=STATEMENT[kind].format(work=1)), Watch(), processes)
        return {"trials": [{name: play(name) for name in names} for _ in range(trials)]}


@contextmanager
def _locked(connection: Connection, kind: str) -> Iterator[None]:
    take, leave = LOCK[kind]
    with connection:
        connection.execute(text(take))
        try:
            yield
        finally:
            connection.execute(text(leave))


def _most_inside(asking: Connection, kind: str, width: int, watch: Watch, clients: int) -> int:
    def inside() -> int:
        return asking.scalar(text(WAITING[kind]))

    # If as many never come, that is what was seen.
    with suppress(LabError):
        wait_until(lambda: inside() >= width and watch.asked >= clients, f"{width} transactions in the server", 40)
    most, end = 0, time.monotonic() + LONGER
    while time.monotonic() < end:
        most = max(most, inside())
        time.sleep(0.01)
    return most
