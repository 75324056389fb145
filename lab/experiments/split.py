"""What a forked child inherits with a session, and what becomes of the parent's transaction (F1, F3, F4, F6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lab.databases import Database
from lab.drivers import arguments, driver, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial
from lab.stage import databases, sent, story, witnessed
from lab.swimlane import Event
from lab.trials import NETWORK_DRIVERS

SPLIT = "lab.scenes.split"
USES = ["lab/scenes/split.py", "lab/stage.py"]
OPEN = "open transaction, one row written"
REBIND = ("engine = create_engine(...)", "session = Session(engine)")
COLLECTS = (*REBIND, "gc.collect")
CLOSED = ("session.close", "engine.dispose")
# One for each database comes first.
DRIVERS = ("psycopg2", "PyMySQL", *(name for name in NETWORK_DRIVERS if name not in ("psycopg2", "PyMySQL")))
POSTGRESQL = [name for name in NETWORK_DRIVERS if driver(name).database == "postgresql"]
MARIADB = [name for name in NETWORK_DRIVERS if driver(name).database == "mariadb"]
# These two say goodbye to the server when their last reference goes.
GOODBYE = ("mysqlclient", "mysql-connector")
WARNING = "there is no transaction in progress"


@experiment("fork-inherits-session", seeds=["F1"], uses=["lab/scenes/heir.py", "lab/stage.py"])
def inherits(effort: Effort) -> Iterator[Arm]:
    what = ("object", "socket", "backend", "transaction")
    with databases() as database:
        for after, role in ((False, "hazard"), (True, "control")):
            checks = [Check(f"same_{name}", "==", not after) for name in what]
            checks += [Check("in_transaction", "==", True)]
            for name in DRIVERS[: effort.pick(6, 2)]:
                child = "makes a session of its own" if after else "looks at the inherited session"
                it = _setup(name, "session in a transaction", child)
                yield _arm(it, role, checks, lambda it=it, after=after: _heirs(it, database(it), after))


def _heirs(it: Setup, database: Database, after: bool) -> Iterator[Trial]:
    got = play("lab.scenes.heir", engine=arguments(it.driver, database), database=it.database, after=after)
    parent, child = got["parent"], got["child"]
    facts = {f"same_{name}": parent[name] == child[name] for name in parent if name != "in_transaction"}
    yield Trial(facts={**facts, "in_transaction": child["in_transaction"]})


@experiment("fork-session-is-a-cycle", seeds=["F3"], uses=["lab/scenes/cycle.py"])
def cycle(effort: Effort) -> Iterator[Arm]:
    lives = [Check("cycle", "==", True), Check("outlives_its_name", "==", True), Check("outlives_gc", "==", False)]
    freed = [Check("cycle", "==", False), Check("outlives_its_name", "==", False)]
    states = (("in a transaction", "hazard", lives), ("closed", "control", freed), ("never used", "control", freed))
    for state, role, checks in states:
        it = Setup("sqlite", "sqlite", moment=f"session {state}")
        yield arm(state, role, it, checks, lambda state=state: _cycles(state, effort.pick(3, 1)))


def _cycles(state: str, trials: int) -> Iterator[Trial]:
    load("sqlite")
    for _ in range(trials):
        yield Trial(facts=play("lab.scenes.cycle", state=state))


@experiment("fork-child-keeps-dead-parents-locks", seeds=["F4"], uses=["lab/scenes/orphan.py", "lab/stage.py"])
def keeps_locks(effort: Effort) -> Iterator[Arm]:
    held = [Check("idle_in_transaction", "==", True), Check("locked", "==", True), Check("locked_later", "==", False)]
    free = [Check("idle_in_transaction", "==", False), Check("locked", "==", False)]
    with databases() as database:
        for child, role, checks in ((True, "hazard", held), (False, "control", free)):
            for name in POSTGRESQL[: effort.pick(3, 1)]:
                it = _setup(name, "row locked, then killed", "lives on" if child else "no child")
                yield _arm(it, role, checks, lambda it=it, child=child: _orphans(it, database(it), child, effort))


def _orphans(it: Setup, database: Database, child: bool, effort: Effort) -> Iterator[Trial]:
    for _ in range(effort.pick(2, 1)):
        got = play("lab.scenes.orphan", engine=arguments(it.driver, database), child=child)
        facts = {"locked": got["update"] != "done", "locked_later": got["update_later"] != "done"}
        facts["idle_in_transaction"] = got["state"].startswith("idle in transaction")
        update = Outcome("error", got["update"]) if facts["locked"] else Outcome("right")
        yield Trial(Tally.of([update]), facts={**facts, "backend": got["state"], "sockets_of_child": got["owners"]})


@experiment("fork-rollback-splits-transaction", seeds=["F6", "F2"], uses=USES)
def splits(effort: Effort) -> Iterator[Arm]:
    half = [Check("parent", "==", "transaction lost"), Check("rows_kept", "==", 1), Check("wrong", "==", 1)]
    whole = [Check("rows_kept", "==", 2), Check("parent", "==", "alive")]
    arms = (
        ("hazard", "rebinds, collects", {"child": COLLECTS}, half),
        ("control", "os._exit at once", {}, whole),
        ("remedy", "rebinds, collects", {"child": COLLECTS, "before": CLOSED}, whole),
    )
    yield from _splits(arms, DRIVERS[: effort.pick(6, 3)], effort.pick(2, 1))


@experiment("fork-second-collection-says-goodbye", seeds=["F2"], uses=USES)
def goodbye(effort: Effort) -> Iterator[Arm]:
    twice = {"child": (*COLLECTS, "gc.collect")}
    dead = [Check("parent", "==", "dead"), Check("rows_kept", "==", 0), Check("error", "==", 1)]
    silent = [Check("parent", "==", "transaction lost"), Check("rows_kept", "==", 1)]
    does = "rebinds, collects twice"
    yield from _splits([("hazard", does, twice, dead)], GOODBYE[: effort.pick(2, 1)], 1)
    others = [name for name in DRIVERS if name not in GOODBYE]
    yield from _splits([("control", does, twice, silent)], others[: effort.pick(4, 1)], 1)


@experiment("fork-rollback-undoes-nothing", seeds=["F6"], uses=USES)
def undoes_nothing(effort: Effort) -> Iterator[Arm]:
    kept = [Check("rows_kept", "==", 1), Check("wrong", "==", 1)]
    undone = [Check("rows_kept", "==", 0), Check("right", "==", 1)]
    hazard = ("hazard", "rebinds, collects", {"child": COLLECTS, "end": "rollback"}, kept)
    control = ("control", "os._exit at once", {"end": "rollback"}, undone)
    yield from _splits([hazard, control], POSTGRESQL[: effort.pick(3, 1)], 1)
    yield from _splits([("control", *hazard[1:3], undone)], MARIADB[: effort.pick(3, 1)], 1)


@experiment("fork-split-transaction-traced", seeds=["F6"], uses=[*USES, "lab/trace.py", "lab/swimlane.py"])
def traced(effort: Effort) -> Iterator[Arm]:
    childs = [Check("rolls_back", "==", "child"), Check("warned", "==", True), Check("rows_kept", "==", 1)]
    nobodys = [Check("rolls_back", "==", "nobody"), Check("warned", "==", False), Check("rows_kept", "==", 2)]
    arms = (
        ("hazard", "rebinds, collects", {"child": COLLECTS}, childs),
        ("control", "os._exit at once", {}, nobodys),
    )
    yield from _splits(arms, ["psycopg2"], effort.pick(3, 1), watched=True)


def _splits(
    arms: Sequence[tuple[Role, str, dict[str, Any], Sequence[Check]]],
    names: Sequence[str],
    trials: int,
    *,
    watched: bool = False,
) -> Iterator[Arm]:
    with databases() as database:
        for name in names:
            for role, does, scene, checks in arms:
                closed = "before" in scene
                it = _setup(name, "all closed" if closed else OPEN, does, remedy="close and dispose" * closed)
                yield _arm(it, role, checks, lambda it=it, how=scene: _split(it, database(it), trials, watched, how))


def _split(it: Setup, database: Database, trials: int, watched: bool, scene: dict[str, Any]) -> Iterator[Trial]:
    """Play the scene.

    Facts: ``rows_written`` and ``rows_kept``; when *watched* ``rolls_back``, who wrote ROLLBACK on the parent's socket,
    ``warned``, whether the server warned the parent, ``child_sends``, and, of the first trial, the ``events``.
    """
    for trial in range(trials):
        engine = arguments(it.driver, database)
        facts: dict[str, Any] = {}
        if watched:
            got, calls = witnessed(SPLIT, database.port, settings=engine, **scene)
            events = story(got, calls, database.port)
            facts |= {"rolls_back": _who(events, "ROLLBACK"), "warned": WARNING in _answer(events, "COMMIT")}
            over = {call.local for call in calls if call.pid == got["parent"]}
            facts["child_sends"] = "; ".join(sent(calls, [got["child"]], over)) or "nothing"
            if trial == 0:
                facts["events"] = events
        else:
            got = play(SPLIT, settings=engine, **scene)
        kept, meant = len(got["kept"]), 0 if scene.get("end") == "rollback" else 2
        facts |= {"rows_written": 2, "rows_kept": kept, "error_message": got["error"] or "none"}
        survival, outcome = Survival("alive"), Outcome("right")
        if got["error"]:
            survival, outcome = Survival("dead", got["error"]), Outcome("error", got["error"])
        elif kept != meant:
            survival, outcome = Survival("transaction lost"), Outcome("wrong")
        yield Trial(Tally.of([outcome]), survival, facts)


def _who(events: Sequence[Event], words: str) -> str:
    return next((event["who"] for event in events if event["op"] == "writes" and event["text"] == words), "nobody")


def _answer(events: Sequence[Event], words: str) -> str:
    """What the parent reads after it has written *words*."""
    asked = [n for n, event in enumerate(events) if (event["who"], event["op"]) == ("parent", "writes")]
    after = next((events[n:] for n in asked if events[n]["text"] == words), [])
    return next((event["text"] for event in after if (event["who"], event["op"]) == ("parent", "reads")), "")


def _setup(name: str, moment: str, child: str, **more: str) -> Setup:
    return Setup(driver(name).database, name, server="os.fork", moment=moment, child=child, **more)


def _arm(it: Setup, role: Role, checks: Sequence[Check], run: Callable[[], Iterator[Trial]]) -> Arm:
    name = ", ".join(word for word in (it.driver, it.remedy, it.child) if word)
    return arm(name, role, it, checks, run)
