"""What a process has in hand when it forks, and what the child does with the engine: who shares what (F1, F5, F6)."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

SCENE = "lab.scenes.moment"
USES = ["lab/scenes/moment.py", "recipes/fork_safe_engine.py"]
# One for each database comes first; the gate stops there.
DRIVERS = ("psycopg2", "mysqlclient", "psycopg", "PyMySQL")

CLOSE_FALSE = ("dispose(close=False)", "gc.collect")
ONE_CONNECTION = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}

RIGHT = Check("child", "==", "right")
SHARED = Check("shared", "==", True)
OWN = Check("shared", "==", False)
INHERITED = [Check("used", "==", "right"), Check("used_shared", "==", True)]
ALIVE = Check("parent", "==", "alive")
NO_ERROR = Check("error", "==", 0)


@dataclass(frozen=True)
class Act:
    """One life and one child: the steps of :mod:`lab.scenes.moment`, and the words of a ``Setup`` for them."""

    role: Role
    parent: tuple[str, ...]
    child: tuple[str, ...]
    checks: Sequence[Check]
    moment: str = ""
    does: str = ""
    remedy: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    protected: bool = False
    tls: bool = False

    def told(self) -> dict[str, Any]:
        """What the scene has to know of it."""
        return {
            "parent": self.parent,
            "child": self.child,
            "options": dict(self.options),
            "protected": self.protected,
        }


@experiment("fork-nothing-connected-is-safe", seeds=["F1", "F5"], uses=USES)
def nothing_connected(effort: Effort) -> Iterator[Arm]:
    uses = "uses the engine"
    yield from acted(
        effort,
        [
            Act("hazard", ("ask",), ("ask",), [RIGHT, SHARED], "all checked in", uses),
            Act("control", (), ("ask",), [RIGHT, OWN, ALIVE], "nothing connected yet", uses),
        ],
    )


@experiment("fork-when-checked-in", seeds=["F1", "F5", "F6"], uses=USES)
def checked_in(effort: Effort) -> Iterator[Arm]:
    moment, uses = "all checked in", "uses the engine"
    yield from acted(
        effort,
        [
            Act("hazard", ("ask",), ("ask",), [RIGHT, SHARED], moment, uses),
            Act("remedy", ("ask",), (*CLOSE_FALSE, "ask"), [RIGHT, OWN], moment, uses, "dispose(close=False)"),
            Act("remedy", ("ask",), ("gc.collect", "ask"), [RIGHT, OWN, ALIVE], moment, uses, "protect", {}, True),
        ],
    )


@experiment("fork-checked-out-escapes-dispose", seeds=["F5", "F6"], uses=USES)
def checked_out(effort: Effort) -> Iterator[Arm]:
    goes_on, uses = "goes on with what it inherited", "uses the engine"
    acts = []
    for step, moment in (("Connection", "a Connection checked out"), ("Session", "a Session in a transaction")):
        acts += [
            Act("hazard", (step,), (*CLOSE_FALSE, "use"), INHERITED, moment, goes_on, "dispose(close=False)"),
            Act("hazard", (step,), ("gc.collect", "use"), INHERITED, moment, goes_on, "protect", {}, True),
            Act("control", (step,), ("ask",), [RIGHT, OWN, ALIVE], moment, uses),
        ]
    yield from acted(effort, acts)


@experiment("fork-thread-holds-connection", seeds=["F5"], uses=USES)
def thread_holds(effort: Effort) -> Iterator[Arm]:
    step, moment, uses = "a thread's Connection", "a second thread holds the pool's only connection", "uses the engine"
    timed_out = [Check("child_error", "==", "TimeoutError"), ALIVE]
    works = [RIGHT, OWN, ALIVE]
    yield from acted(
        effort,
        [
            Act("hazard", (step,), ("ask",), timed_out, moment, uses, "", ONE_CONNECTION),
            Act(
                "remedy",
                (step,),
                (*CLOSE_FALSE, "ask"),
                works,
                moment,
                uses,
                "dispose(close=False)",
                ONE_CONNECTION,
            ),
            Act("remedy", (step,), ("gc.collect", "ask"), works, moment, uses, "protect", ONE_CONNECTION, True),
        ],
    )


@experiment("fork-scoped-session-is-inherited", seeds=["F1"], uses=USES)
def scoped_session(effort: Effort) -> Iterator[Arm]:
    child, does = ("identity", "use"), "calls the scoped_session"
    moment, before = "a scoped_session in a transaction", "remove() and dispose() before the fork"
    inherited = [Check("inherited", "==", True), Check("in_transaction", "==", True), *INHERITED]
    new = [Check("inherited", "==", False), Check("in_transaction", "==", False), Check("used_shared", "==", False)]
    over = ("scoped_session", "commit()", "remove()", "dispose()")
    yield from acted(
        effort,
        [
            Act("hazard", ("scoped_session",), child, inherited, moment, does),
            Act("remedy", over, child, [*new, ALIVE], moment, does, before),
        ],
    )


def acted(effort: Effort, acts: Sequence[Act], names: Sequence[str] = DRIVERS, gate: int = 2) -> Iterator[Arm]:
    """An arm for each of *acts* with each of the drivers *names*; a driver's acts are played by one interpreter.

    The gate takes the first *gate* drivers.
    """
    with databases() as database:
        for name, tls in itertools.product(names[: effort.pick(len(names), gate)], sorted({act.tls for act in acts})):
            mine = [act for act in acts if act.tls == tls]
            rows = _rows(name, database, mine, tls, effort.pick(5, 1))
            for n, act in enumerate(mine):
                kind, words = driver(name).database, (act.moment, act.does, act.remedy)
                it = Setup(kind, name, tls, "os.fork", act.remedy, 1, moment=act.moment, child=act.does)
                label = ", ".join(filter(None, (name, "TLS" if tls else "plain", *words)))
                yield arm(label, act.role, it, act.checks, lambda n=n, rows=rows: map(_trial, rows()[n]))


@contextlib.contextmanager
def databases() -> Iterator[Callable[[str], Database]]:
    """A function that starts each kind of database when it is first asked for. They take TLS and plain clients."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(start(kind, tls=True)))


def _rows(
    name: str, database: Callable[[str], Database], acts: Sequence[Act], tls: bool, trials: int
) -> Callable[[], list[list[dict[str, Any]]]]:
    @functools.cache
    def rows() -> list[list[dict[str, Any]]]:
        kind = driver(name).database
        engine = arguments(name, database(kind), tls=tls)
        told = [act.told() for act in acts for _ in range(trials)]
        found = play(SCENE, engine=engine, database=kind, acts=told)["rows"]
        return [found[n * trials : (n + 1) * trials] for n in range(len(acts))]

    return rows


def _trial(row: dict[str, Any]) -> Trial:
    """What the child and then the parent got.

    Facts: ``shared`` and ``used_shared``, whether what the child got from the pool, or inherited, is on the
    parent's backend, which ``child_on`` tells in words; ``kept``, of the two rows of the parent's transaction.
    """
    child, parent = row["child"], row["parent"]
    asked, used, identity = (child.get(step) or {} for step in ("ask", "use", "identity"))
    facts: dict[str, Any] = {"in_transaction": identity.get("in_transaction", row["in_transaction"])}
    facts |= {"child": asked.get("kind"), "shared": _same(asked, row["backend"])}
    facts |= {"used": used.get("kind"), "used_shared": _same(used, row["backend"])}
    facts |= {"inherited": identity.get("inherited"), "kept": row["kept"]}
    facts["child_on"] = _place(asked or used, row["backend"])
    said = next((told["message"] for told in child.values() if isinstance(told, dict) and "message" in told), "")
    facts |= {"child_said": said, "child_error": said.partition(":")[0].rpartition(".")[2]}
    outcomes = [Outcome(it["kind"], it.get("message", "")) for it in (asked, used, parent) if it]
    return Trial(Tally.of(outcomes), _survival(row), facts)


def _survival(row: dict[str, Any]) -> Survival:
    parent, worked = row["parent"], "backend" not in row["parent"]
    if parent["kind"] == "error":
        return Survival("dead", parent["message"])
    if worked:
        return Survival("alive" if row["kept"] == 2 else "transaction lost")
    # Where the pool replaced the connection without a word it is dead all the same.
    return Survival("alive" if row["backend"] in (None, parent["backend"]) else "dead")


def _place(got: dict[str, Any], backend: int | None) -> str:
    if not got:
        return "has not asked"
    if "backend" not in got:
        return "gets no connection"
    return "on the parent's connection" if got["backend"] == backend else "on its own"


def _same(got: dict[str, Any], backend: int | None) -> bool | None:
    return got["backend"] == backend if "backend" in got else None
