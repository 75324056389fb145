"""The driver grid: what a forked child does, by driver and TLS, and what becomes of its parent's connection.

All claims rest on the same runs: each column (a driver, plain or over TLS, or SQLite with one of its journals) is
played once per trial and moment, with a row for everything that a child may do, by :mod:`lab.scenes.grid`.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lab import databases
from lab.components import Missing
from lab.databases import Database
from lab.drivers import ALL_DRIVERS, QUESTION, arguments, driver, load, spoken
from lab.evidence import Effort, arm
from lab.process import LabError, play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

USES = ["lab/forkgrid.py", "lab/scenes/grid.py"]
RECIPES = [*USES, "recipes/fork_safe_engine.py", "recipes/multiprocessing_postfork.py"]
IDLE, TRANSACTION = "checked in", "in a transaction"

# What the child does, step by step; some steps are taken before the fork. All rows are for both moments, but those
# with a Session, which only a transaction has.
WORKS_AND_LEAVES = ["ask", "collect", "ask", "sys.exit"]
CHILDREN = {
    "leaves by os._exit": ["os._exit"],
    "leaves by sys.exit": ["sys.exit"],
    "one query": ["ask here", "os._exit"],
    "one query on the inherited loop": ["inherited loop", "ask here", "os._exit"],
    "dispose()": ["dispose()", "os._exit"],
    "close=False": ["dispose(close=False)", "os._exit"],
    "close=False, collect": ["dispose(close=False)", "collect", "os._exit"],
    "close=False, sys.exit": ["dispose(close=False)", "sys.exit"],
    "old pool kept, collect": ["keep the pool", "dispose(close=False)", "collect", "os._exit"],
    "old pool kept, sys.exit": ["keep the pool", "dispose(close=False)", "sys.exit"],
    "gc.freeze before, collect": ["gc.freeze", "dispose(close=False)", "collect", "os._exit"],
    "gc.freeze before, sys.exit": ["gc.freeze", "dispose(close=False)", "sys.exit"],
    "new engine, collect": ["new engine", "collect", "os._exit"],
    "pid guard": ["pid guard", "ask", "collect", "ask", "os._exit"],
    "descriptor closed": ["close fd", "dispose(close=False)", *WORKS_AND_LEAVES],
    "/dev/null over descriptor": ["null fd", "dispose(close=False)", *WORKS_AND_LEAVES],
    "recipe fork_safe_engine": ["protect", *WORKS_AND_LEAVES],
    "recipe multiprocessing_postfork": ["start_empty", *WORKS_AND_LEAVES],
    "session.close()": ["session.close()", "dispose(close=False)", "os._exit"],
    "Session dropped, collect": ["new engine", "new Session", "collect", "os._exit"],
    "Session dropped, /dev/null": ["null fd", "dispose(close=False)", "new Session", *WORKS_AND_LEAVES],
    "Session dropped, recipe fork_safe_engine": ["protect", "new Session", *WORKS_AND_LEAVES],
    "Session dropped, recipe multiprocessing_postfork": ["start_empty", "new Session", *WORKS_AND_LEAVES],
    "Session given up, recipe multiprocessing_postfork": [
        *("give up the Session", "start_empty", "new Session"),
        *WORKS_AND_LEAVES,
    ],
    "session.close(), recipe fork_safe_engine": ["protect", "session.close()", *WORKS_AND_LEAVES],
}
ONLY_LOOP = {"one query on the inherited loop"}
ONLY_TRANSACTION = {name for name in CHILDREN if name.lower().startswith("session")}


@dataclass(frozen=True)
class Column:
    driver: str
    tls: bool = False
    journal: str = ""

    @property
    def database(self) -> str:
        kind = driver(self.driver).database
        return f"{kind}, journal_mode={self.journal}" if self.journal else kind

    @property
    def network(self) -> bool:
        return not self.journal

    @property
    def loop(self) -> bool:
        return driver(self.driver).loop

    def __str__(self) -> str:
        return f"{self.driver}, {self.journal or ('TLS' if self.tls else 'plain')}"


NETWORK = [row.name for row in ALL_DRIVERS.values() if row.database in ("postgresql", "mariadb")]
SQLITE = (Column("sqlite", journal="DELETE"), Column("sqlite", journal="WAL"))
ALL = (*(Column(name, tls) for name in NETWORK for tls in (False, True)), *SQLITE)
# For the gate: all drivers, but TLS only where a driver stands for its kind.
FEW = tuple(column for column in ALL if not column.tls or column.driver in ("psycopg2", "PyMySQL", "psycopg async"))
KILLED, ALIVE = [Check("parent", "==", "dead")], [Check("parent", "==", "alive")]
HARMED = [Check("parent", "!=", "alive")]
ASKED = [Check("child", "==", "right"), Check("own", "==", False)]
SHARED = [Check("own", "==", False)]
SERVED = [*ALIVE, Check("child", "==", "right"), Check("own", "==", True)]


def network(column: Column) -> bool:
    return column.network


def plain(column: Column) -> bool:
    return column.network and not column.tls


def tls(column: Column) -> bool:
    return column.network and column.tls


def loops(column: Column) -> bool:
    return column.loop


def threads(column: Column) -> bool:
    return not column.loop


def threads_and_sockets(column: Column) -> bool:
    return threads(column) and column.network


def cells(
    effort: Effort,
    role: Role,
    children: Iterable[str],
    checks: Sequence[Check],
    moment: str = IDLE,
    where: Callable[[Column], bool] = lambda column: True,
) -> Iterator[Arm]:
    """One arm for each of *children* and each column for which *where* is true."""
    for child in children:
        for column in effort.pick(ALL, FEW):
            if where(column) and child in children_of(column, moment):
                it = Setup(column.database, column.driver, column.tls, "os.fork", moment=moment, child=child)
                name = f"{column}, {moment}: {child}"
                yield arm(name, role, it, checks, functools.partial(trials_of, effort, column, moment, child))


def children_of(column: Column, moment: str) -> list[str]:
    left_out = (set() if column.loop else ONLY_LOOP) | (set() if moment == TRANSACTION else ONLY_TRANSACTION)
    return [name for name in CHILDREN if name not in left_out]


def trials_of(effort: Effort, column: Column, moment: str, child: str) -> tuple[Trial, ...]:
    found = _grid(effort.pick(ALL, FEW), effort.pick(2, 1))[column]
    if isinstance(found, Exception):
        raise found
    # Each claim notes the versions of what it rests on, as if it had run alone.
    load(column.driver)
    return tuple(found[moment, child])


@functools.cache
def _grid(columns: Sequence[Column], trials: int) -> dict[Column, dict[tuple[str, str], list[Trial]] | Exception]:
    """Play all of it, two columns at a time, and once per session, as many claims rest on it."""
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        kinds = dict.fromkeys((driver(column.driver).database, column.journal) for column in columns)
        started = {kind: _started(stack, *kind) for kind in kinds}
        tasks = {column: pool.submit(_played, column, started, trials) for column in columns}
        # What was missing or failed is kept too: every claim would try it again.
        return {column: task.exception() or task.result() for column, task in tasks.items()}


def _started(stack: contextlib.ExitStack, kind: str, journal: str) -> Database | Missing:
    try:
        database = stack.enter_context(databases.start(kind, tls=not journal))
    except Missing as missing:
        return missing
    if journal:
        database.ask(f"pragma journal_mode={journal}")
    database.ask(f"create table {_table(kind)} (token varchar(32), nth int)")
    return database


def _table(kind: str) -> str:
    return "lab.fork_grid" if kind == "mariadb" else "fork_grid"


def _played(
    column: Column, started: dict[tuple[str, str], Database | Missing], trials: int
) -> dict[tuple[str, str], list[Trial]]:
    kind = driver(column.driver).database
    database = started[kind, column.journal]
    if isinstance(database, Missing):
        raise database
    engine = arguments(column.driver, database, tls=column.tls)
    names = [(moment, name) for moment in (IDLE, TRANSACTION) for name in children_of(column, moment)] * trials
    rows = [(moment, CHILDREN[name]) for moment, name in names]
    scene = {"engine": engine, "question": QUESTION[kind], "loop": column.loop, "rows": rows}
    found: dict[tuple[str, str], list[Trial]] = {}
    for (moment, name), row in zip(names, play("lab.scenes.grid", patience=600, **scene)["rows"], strict=True):
        if row.get("before", {}).get("kind") != "right":
            raise LabError(f"{column}, {name}: the parent had no connection to begin with: {row}")
        rows_kept = database.ask(f"select nth from {_table(kind)} where token = '{row['token']}'")
        found.setdefault((moment, name), []).append(_trial(row, CHILDREN[name], moment, len(rows_kept)))
    return found


def _trial(row: dict[str, Any], steps: Sequence[str], moment: str, kept: int) -> Trial:
    """What was seen in one run of one cell.

    Facts: ``steps``; ``child``, the worst of its own answers; ``own``, whether it had another connection than its
    parent; ``says``, its first complaint; ``exit``, how it ended; ``deaf``, whether the parent sleeps in a loop that
    does not watch its connection; of a transaction ``kept``, how many of its two rows are there; of SQLite ``lock``.
    """
    did = row["did"]
    asked = [step for step in did["steps"] if step["step"].startswith("ask")]
    kinds = [step["kind"] for step in did["steps"] if step["kind"] == "error"] + [step["kind"] for step in asked]
    child = (
        "hung" if did["hung"] else next((kind for kind in ("error", "wrong", "right") if kind in kinds), "not asked")
    )
    others = [step["who"] != row["before"]["who"] for step in asked if step["kind"] == "right"]
    facts = {
        "steps": ", ".join(steps),
        "child": child,
        "own": bool(others) and all(others),
        "says": did["hung"] or next((_message(step) for step in did["steps"] if step["kind"] == "error"), ""),
        "exit": did["exit"],
        "deaf": "does not watch" in row["hung"],
    }
    if moment == TRANSACTION:
        facts |= {"kept": kept} | ({"lock": row["lock"]} if "lock" in row else {})
    answers = row.get("after", [{"kind": "hung", "message": ""}])
    tally = Tally.of(Outcome(answer["kind"], _message(answer)) for answer in answers)
    return Trial(tally, _survival(row, answers, moment, kept), facts)


def _message(step: dict[str, Any]) -> str:
    """An error that travelled as text, spoken like any other; without addresses and folders of this machine."""
    if "type" not in step:
        return step["message"]
    module, name = step["type"]
    said = spoken(type(name, (Exception,), {"__module__": module, "__qualname__": name})(step["message"]))
    return re.sub(r"<(Task|Future) .*?>(?= got | attached|$)", r"<\1 ...>", said).strip()


def _survival(row: dict[str, Any], answers: Sequence[dict[str, Any]], moment: str, kept: int) -> Survival:
    bad = next((answer for answer in answers if answer["kind"] != "right"), None)
    if bad:
        return Survival("dead", row["hung"] or _message(bad) or "an answer to another's question")
    if any(answer["who"] not in (None, row["before"]["who"]) for answer in answers):
        return Survival("dead", "another connection took its place")
    return Survival("transaction lost" if moment == TRANSACTION and kept != 2 else "alive")
