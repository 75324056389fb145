"""A second thread holds a lock at the moment of the fork: which children wait for ever, and what spares them (F5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.evidence import Effort, arm, experiment, saw
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Survival, Tally, Trial

USES = ["lab/scenes/locks.py", "lab/scenes/places.py", "recipes/fork_safe_engine.py"]
HUNG, RIGHT = Check("child", "==", "hung"), Check("child", "==", "right")
# Role, what the child does before it asks, what the parent did before, and what is to become of the child.
Case = tuple[Role, str, str, Check]


@experiment("fork-child-deadlocks-pool", seeds=["F5"], uses=USES)
def pool(effort: Effort) -> Iterator[Arm]:
    yield from _arms(
        effort,
        "pool",
        "a second thread gives a connection back",
        [
            ("hazard", "", "", HUNG),
            ("hazard", "dispose()", "", HUNG),
            ("remedy", "dispose(close=False)", "", RIGHT),
            ("remedy", "", "protect", RIGHT),
        ],
    )


@experiment("fork-child-deadlocks-first-connect", seeds=["F5"], uses=USES)
def first_connect(effort: Effort) -> Iterator[Arm]:
    fails = Check("said", "==", "TypeError")
    yield from _arms(
        effort,
        "first connect",
        "a second thread makes the engine's first connection",
        [
            ("hazard", "", "", HUNG),
            ("hazard", "dispose(close=False)", "", fails),
            ("hazard", "", "protect", fails),
            ("remedy", "a new engine", "", RIGHT),
            ("remedy", "dispose(close=False)", "connect", RIGHT),
        ],
    )


@experiment("fork-child-deadlocks-mappers", seeds=["F5"], uses=USES)
def mappers(effort: Effort) -> Iterator[Arm]:
    yield from _arms(
        effort,
        "mappers",
        "a second thread is in configure_mappers()",
        [
            ("hazard", "", "", HUNG),
            ("hazard", "dispose(close=False)", "", HUNG),
            ("hazard", "a new engine", "", HUNG),
            ("hazard", "", "protect", HUNG),
            ("remedy", "", "configure_mappers", RIGHT),
        ],
    )


@experiment("fork-child-deadlocks-logging", seeds=["F5"], uses=USES)
def log(effort: Effort) -> Iterator[Arm]:
    cases: list[tuple[str, Role, Check]] = [
        ("handler's own lock", "hazard", HUNG),
        ("buffered stream", "hazard", HUNG),
        ("handler", "control", RIGHT),
        ("unbuffered stream", "control", RIGHT),
    ]
    for place, role, check in cases:
        moment = f"a second thread logs, and holds the lock of: {LOCKS[place]}"
        yield from _arms(effort, place, moment, [(role, "", "", check)], control=False)


BEFORE = {
    "": "",
    "protect": "protect",
    "connect": "one query before any thread starts",
    "configure_mappers": "configure_mappers() before any thread starts",
}
PREPARED = ("connect", "configure_mappers")
LOCKS = {
    "handler's own lock": "what the handler writes to",
    "buffered stream": "the handler, and a buffered stream",
    "handler": "the handler",
    "unbuffered stream": "the handler, over an unbuffered stream",
}


def _arms(effort: Effort, place: str, moment: str, cases: Sequence[Case], *, control: bool = True) -> Iterator[Arm]:
    """An arm for each of *cases*, and one for the same child where no second thread runs."""
    for role, does, first, check in cases:
        yield _arm(effort, place, moment, role, does, first, check, True)
    if control:
        yield _arm(effort, place, "one thread only", "control", "", "", RIGHT, False)


def _arm(effort: Effort, place: str, moment: str, role: Role, does: str, first: str, check: Check, held: bool) -> Arm:
    # Where all is prepared a second thread has nothing to do, and holds nothing.
    held = held and first not in PREPARED
    remedy = ", ".join(filter(None, (BEFORE[first], does)))
    it = Setup("sqlite", "sqlite", server="os.fork", remedy=remedy, workers=1, moment=moment, child="uses the engine")
    checks = [check, Check("parent", "==", "alive")]
    trials = effort.pick(3, 1)

    def run() -> Iterator[Trial]:
        for _ in range(trials):
            yield _trial(play("lab.scenes.locks", place=place, child=[does] if does else [], held=held, first=first))

    return arm(", ".join(filter(None, (moment, remedy or "no remedy"))), role, it, checks, run)


def _trial(told: dict) -> Trial:
    """Facts: how the ``child`` fared; where it hangs, what it ``waits_in``, its ``threads``, where it ``stands_in``."""
    saw("sqlite", told["sqlite"])
    said = told.get("said", "")
    facts = {name: told.get(name) for name in ("child", "waits_in", "threads", "stands_in")}
    facts |= {"said": said.partition(":")[0].rpartition(".")[2], "message": said}
    survival = Survival("alive" if told["parent"] == "right" else "dead")
    return Trial(Tally.of([Outcome(told["child"], said)]), survival, facts)
