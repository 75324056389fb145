"""A standby behind its primary: what a Session that reads from it says, and what makes it say the new."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lab.drivers import arguments, load
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.replica import Replica, replica
from lab.scenes.routed import STAGE
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

SCENE = "lab.scenes.replica"
USES = ["lab/scenes/replica.py", "lab/scenes/routed.py", "lab/replica.py", "recipes/read_your_writes.py"]
DRIVERS = ("psycopg2", "psycopg")
Play = Callable[[str, str, int], dict[str, Any]]
# What a trial has to say of each row.
Expected = Mapping[str, Any]
_played: dict[tuple[Any, ...], dict[str, Any]] = {}

WRITES = ("flush()", "insert()", "update()", "text()", "with_for_update()")
MOMENTS = ("before the commit", "after it")
ROW = ("a row added", "a row changed", "a row deleted", "the changed object itself", "the added object itself")
AGAIN = ("refresh()", "expire()", "populate_existing", "expunge_all()", "rollback()", "close()", "a new Session")
REFUSED = ("flush() of a new object", *WRITES[1:], "select() of nextval()", "use_primary(), then the same")


@experiment("replica-read-after-write-stale", uses=USES)
def read_after_write(effort: Effort) -> Iterator[Arm]:
    # What was added is no row yet where it is looked for.
    old = {**dict.fromkeys(ROW, "old"), "the added object itself": "error"}
    yield from _arms(
        effort,
        "after the commit",
        [
            ("hazard", "by statement", old),
            ("control", "all to the primary", dict.fromkeys(ROW, "new")),
        ],
    )


@experiment("replica-refresh-does-not-help", uses=USES)
def refresh(effort: Effort) -> Iterator[Arm]:
    old = {**dict.fromkeys([*AGAIN, "a column"], "old"), "with_for_update()": "error"}
    yield from _arms(
        effort,
        "again",
        [
            ("hazard", "by statement", old),
            ("control", "all to the primary", dict.fromkeys(old, "new")),
        ],
    )


@experiment("replica-sticky-primary-cures", uses=USES)
def sticky_primary(effort: Effort) -> Iterator[Arm]:
    """The routing that is copied knows a flush, ``update()`` and ``delete()`` for writes."""
    known = {"flush()": "old", "update()": "old"}
    own = {f"{write}, {moment}": known.get(write, "error") for write in WRITES for moment in MOMENTS}
    own["the user's next Session"] = "old"
    yield from _arms(
        effort,
        "own write",
        [
            ("hazard", "by statement", {**own, "another user's Session": "old"}),
            # It promises nothing to others.
            ("remedy", "read_your_writes", {**dict.fromkeys(own, "new"), "another user's Session": "old"}),
        ],
    )


@experiment("read-only-transaction-to-replica", uses=USES)
def read_only(effort: Effort) -> Iterator[Arm]:
    routed = dict.fromkeys(REFUSED, "right")
    by_statement = dict.fromkeys(REFUSED, "error") | {"flush() of a new object": "right", "update()": "right"}
    yield from _arms(
        effort,
        "refused",
        [
            ("hazard", "all to the standby", dict.fromkeys(REFUSED, "error")),
            ("hazard", "by statement", by_statement),
            ("control", "all to the primary", routed),
            ("remedy", "read_your_writes", {**routed, "select() of nextval()": "error"}),
        ],
    )


@experiment("replica-waits-for-lsn", uses=[*USES, "lab/scenes/replica_wait.py"])
def wait(effort: Effort) -> Iterator[Arm]:
    cases: list[tuple[Role, str, Expected]] = [
        ("hazard", "no wait", {"wait": "none", "read": "old"}),
        ("remedy", "the replay goes on", {"wait": "over", "asked before": True, "read": "new"}),
        ("control", "the replay stands still", {"wait": "in vain", "read": "old"}),
    ]
    with _stage() as played:
        for name in DRIVERS:
            for role, case, expected in cases:
                setup = Setup("postgresql", name, remedy=case if role == "hazard" else f"wait_for(), {case}")
                run = _trials(played, f"{SCENE}_wait", name, effort, _waited, case)
                yield arm(f"{name}, {case}", role, setup, _checks(expected), run)


def _arms(effort: Effort, question: str, routes: Sequence[tuple[Role, str, Expected]]) -> Iterator[Arm]:
    with _stage() as played:
        for name in DRIVERS:
            for role, route, expected in routes:
                run = _trials(played, SCENE, name, effort, _asked, question, route)
                yield arm(f"{name}, {route}", role, Setup("postgresql", name, remedy=route), _checks(expected), run)


def _checks(expected: Expected) -> list[Check]:
    return [Check(row, "==", word) for row, word in expected.items()]


def _trials(played: Play, scene: str, name: str, effort: Effort, trial: Callable[..., Trial], *where: str) -> Callable:
    def run() -> Iterator[Trial]:
        load(name)
        for nth in range(effort.pick(5, 1)):
            yield trial(functools.reduce(operator.getitem, where, played(scene, name, nth)))

    return run


def _asked(rows: Mapping[str, Mapping[str, Any]]) -> Trial:
    kinds = {"new": "right", "right": "right", "old": "wrong", "error": "error"}
    tally = Tally.of(Outcome(kinds[row["word"]], row["says"]) for row in rows.values())
    words = {name: row["word"] for name, row in rows.items()}
    told = {kind: {name: row[kind] for name, row in rows.items() if row[kind]} for kind in ("says", "sql")}
    return Trial(tally, facts={**words, **told})


def _waited(got: Mapping[str, Any]) -> Trial:
    says = {"wait": got["says"]} if got["says"] else {}
    return Trial(facts={**{name: value for name, value in got.items() if name != "says"}, "says": says})


@contextlib.contextmanager
def _stage() -> Iterator[Play]:
    """A function that plays a scene with the named driver while the standby is held, over a table that is as new."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def pair() -> Replica:
            return stack.enter_context(replica())

        def played(*what: Any) -> dict[str, Any]:
            # All claims but one rest on the same run, which is made once.
            if what not in _played:
                scene, name, _ = what
                for statement in STAGE:
                    pair().primary.ask(statement)
                with pair().held():
                    where = {"primary": arguments(name, pair().primary), "standby": arguments(name, pair().standby)}
                    _played[what] = play(scene, patience=180, **where)
            return _played[what]

        yield played
