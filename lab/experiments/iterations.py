"""A program that rebinds its session in a forked child, until its parent fails: when, and who sends what (F2 to F5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab import components
from lab.databases import Database
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial
from lab.stage import databases, sent, witnessed
from lab.trials import NETWORK_DRIVERS

SCENE = "lab.scenes.iterations"
USES = ["lab/scenes/iterations.py", "lab/stage.py"]
REBIND = ("init", "work")
FORCED = ("init", "gc.collect", "work")
KEPT = ("keep a reference", *FORCED)
CLOSED = ("session.close", "engine.dispose")
# One for each database comes first.
DRIVERS = ("psycopg2", "PyMySQL", *(name for name in NETWORK_DRIVERS if name not in ("psycopg2", "PyMySQL")))
# These two say goodbye to the server when their last reference goes.
GOODBYE = ("mysqlclient", "mysql-connector")
NEVER = [Check("bad", "==", 0), Check("reaped_at_failure", "==", True)]
AT_ONCE = [Check("first_bad", "==", 1), Check("error", "==", 1), Check("reaped_at", "==", 1)]
# Thresholds of the three generations, after the default.
THRESHOLDS = ((200, 5, 5), (2000, 10, 10), (5000, 10, 10), (50, 1, 1))


@experiment("fork-rebinding-breaks-parent", seeds=["F2"], uses=[*USES, "lab/trace.py"])
def rebinding(effort: Effort) -> Iterator[Arm]:
    shared = Check("shared_sockets", "==", 1)
    silent = [Check("bad", "==", 0), Check("reaped_at", "==", 1), shared]
    program = {"look": True, "iterations": 2, "trace": True}
    with databases() as database:
        for name in DRIVERS[: effort.pick(6, 2)]:
            for label, role, tls, checks, child in (
                ("rebinds", "hazard", True, [*AT_ONCE, shared], FORCED),
                ("keeps a reference", "control", True, [Check("bad", "==", 0), Check("total", "==", 2), shared], KEPT),
                ("rebinds", "control", False, silent, FORCED),
            ):
                it = _setup(name, tls, child=f"{label}, collects")
                trials = effort.pick(2 if role == "hazard" else 1, 1)
                yield _arm(it, role, checks, database, trials, **program, child=child)


@experiment("fork-collector-decides", seeds=["F3"], uses=USES)
def collector_decides(effort: Effort) -> Iterator[Arm]:
    program = {"iterations": effort.pick(25, 12), "child": REBIND}
    decides = [Check("reaped_at_failure", "==", True)]
    often = effort.pick(2, 1)
    with databases() as database:
        for child, role, checks, more in (
            ("gc.collect() in the child", "hazard", AT_ONCE, {"child": FORCED}),
            ("default thresholds", "hazard", decides, {}),
            ("collector off", "control", NEVER, {"collector": "off"}),
            ("thresholds 100000, 10, 10", "control", NEVER, {"collector": [100_000, 10, 10]}),
        ):
            it = _setup("psycopg2", True, child=child)
            yield _arm(it, role, checks, database, often, **{**program, **more})
        for thresholds in THRESHOLDS[: effort.pick(4, 1)]:
            it = _setup("psycopg2", True, child=f"thresholds {', '.join(map(str, thresholds))}")
            yield _arm(it, "hazard", decides, database, effort.pick(2, 1), **program, collector=thresholds)
        for name in DRIVERS[1 : effort.pick(6, 1)]:
            it = _setup(name, True, child="default thresholds")
            yield _arm(it, "hazard", decides, database, often, **program)


@experiment("fork-close-false-cannot-help-checked-out", seeds=["F6"], uses=USES)
def close_false(effort: Effort) -> Iterator[Arm]:
    program = {"iterations": 3, "child": ("dispose(close=False)", *FORCED)}
    does = "dispose(close=False), rebinds, collects"
    with databases() as database:
        for name in DRIVERS[: effort.pick(6, 2)]:
            it = _setup(name, True, child=does)
            yield _arm(it, "hazard", AT_ONCE, database, 1, **program)
        for name in [name for name in DRIVERS if name not in GOODBYE][: effort.pick(4, 2)]:
            it = _setup(name, True, moment="connection in the pool", child=does)
            checks = [Check("bad", "==", 0), Check("total", "==", 3)]
            yield _arm(it, "control", checks, database, 1, **program, before=["session.close"])


@experiment("fork-second-program-only-seems-to-work", seeds=["F4"], uses=USES)
def second_program(effort: Effort) -> Iterator[Arm]:
    program = {"program": "local", "look": True, "child": FORCED}
    shares = [Check("shared_sockets", "==", 1), Check("finds_session", "==", True)]
    works = [Check("bad", "==", 0), Check("parent", "==", "alive"), *shares]
    breaks = [Check("first_bad", "==", 1), Check("parent", "==", "dead"), *shares]
    with databases() as database:
        for name in DRIVERS[: effort.pick(6, 1)]:
            for leave, role, checks, iterations in (
                ("sys.exit", "hazard", breaks, 1),
                ("os._exit", "control", works, 1),
                ("", "control", works, effort.pick(10, 3)),
            ):
                server = "os.fork" if leave else "multiprocessing fork"
                it = _setup(name, not leave, server=server, child=leave or "leaves as multiprocessing has it")
                more = {**program, "leave": leave, "iterations": iterations}
                yield _arm(it, role, checks, database, 1, **more)


@experiment("fork-close-and-dispose-before", seeds=["F5"], uses=USES)
def close_and_dispose(effort: Effort) -> Iterator[Arm]:
    program = {"look": True, "child": ("init", "gc.collect", "gc.collect", "work")}
    cured = [Check("bad", "==", 0), Check("shared_sockets", "==", 0)]
    shared = Check("shared_sockets", "==", 1)
    with databases() as database:
        for name in DRIVERS[: effort.pick(6, 2)]:
            for tls in (False, True):
                loud = [shared, *AT_ONCE] if tls or name in GOODBYE else [shared, Check("reaped_at", "==", 1)]
                it = _setup(name, tls, child="rebinds, collects twice")
                yield _arm(it, "hazard", loud, database, 1, **program, iterations=1)
                it = _setup(name, tls, moment="all closed", remedy="close and dispose", child=it.child)
                more = {**program, "iterations": effort.pick(10, 3), "before": CLOSED}
                yield _arm(it, "remedy", cured, database, 1, **more)


def _setup(name: str, tls: bool, *, child: str, moment: str = "session in a transaction", **more: str) -> Setup:
    server = more.pop("server", "multiprocessing fork")
    return Setup(driver(name).database, name, tls, server, moment=moment, child=child, **more)


def _arm(
    it: Setup,
    role: Role,
    checks: Sequence[Check],
    database: Callable[[Setup], Database],
    trials: int,
    **program: Any,
) -> Arm:
    words = [it.driver, "TLS" if it.tls else "plain", it.remedy, it.moment if role == "control" else "", it.child]
    name = ", ".join(word for word in words if word and word != "session in a transaction")
    return arm(name, role, it, checks, lambda: (_trial(it, database(it), **program) for _ in range(trials)))


def _trial(it: Setup, database: Database, *, trace: bool = False, **program: Any) -> Trial:
    """Run the program once, in an interpreter of its own.

    Facts: ``reaped_at``, the iteration in which the child's copy of the session was freed, and ``reaped_by``, what
    freed it; ``inherited``, the collector's first counter in each child at its start, and ``generation``, the session's
    in the last; ``shared_sockets`` and ``finds_session``, what the first child found; ``child_sends``, what the first
    wrote on the parent's connection, if strace is there to tell.
    """
    engine = arguments(it.driver, database, tls=it.tls)
    if it.database == "mariadb":
        # Under the default the parent's old snapshot would hide the child's work, which is not what this is about.
        engine["isolation_level"] = "READ COMMITTED"
    facts: dict[str, Any] = {}
    if trace and components.find("strace"):
        got, calls = witnessed(SCENE, database.port, engine=engine, **program)
        over = {call.local for call in calls if call.pid == got["parent"]}
        facts["child_sends"] = "; ".join(filter(None, sent(calls, [got["rows"][0]["child"]], over))) or "nothing"
    else:
        got = play(SCENE, engine=engine, **program)
    rows = got["rows"]
    tally = Tally.of(Outcome(**row["outcome"]) for row in rows)
    reaped_at = next((n for n, row in enumerate(rows, 1) if "reaped_by" in row), None)
    facts |= {
        "reaped_at": reaped_at,
        "reaped_by": rows[reaped_at - 1]["reaped_by"] if reaped_at else "nothing",
        "reaped_at_failure": reaped_at == tally.first_bad,
        "inherited": [row["counts"][0] for row in rows if "counts" in row],
        "generation": rows[-1].get("generation"),
    }
    if program.get("look"):
        facts["shared_sockets"] = rows[0]["shared_sockets"]
        facts["finds_session"] = rows[0].get("session") in rows[0]["sessions"]
    (message,) = tally.messages or ("",)
    return Trial(tally, Survival("dead", message) if tally.error else Survival("alive"), facts)
