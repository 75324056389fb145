"""What does not help, or not enough: popular remedies for a fork, and where each of them ends (F5)."""

from __future__ import annotations

from collections.abc import Iterator

from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.moment import (
    ALIVE,
    DRIVERS,
    INHERITED,
    NO_ERROR,
    ONE_CONNECTION,
    OWN,
    RIGHT,
    SHARED,
    Act,
    acted,
    databases,
)
from lab.process import play
from lab.shapes import Arm, Check, Setup, Trial
from lab.trials import NETWORK_DRIVERS

USES = ["lab/scenes/moment.py", "lab/experiments/moment.py", "recipes/fork_safe_engine.py"]
GOES_ON, ENGINE = "goes on with what it inherited", "uses the engine"
SESSION = "a Session in a transaction"

LOST = [Check("parent", "==", "transaction lost"), Check("kept", "==", 1), NO_ERROR]
DEAD = Check("parent", "==", "dead")
CHILDREN = 4


@experiment("fork-dispose-before-is-not-enough-with-threads", seeds=["F5"], uses=USES)
def dispose_before(effort: Effort) -> Iterator[Arm]:
    remedy = "dispose() before the fork"
    timed_out = [Check("child_error", "==", "TimeoutError"), ALIVE]
    gave_back, holds = "a second thread has used the engine since", "a second thread holds a connection since"
    yield from acted(
        effort,
        [
            Act("hazard", ("ask", "dispose()", "a thread asks"), ("ask",), [RIGHT, SHARED], gave_back, ENGINE, remedy),
            Act(
                "hazard",
                ("ask", "dispose()", "a thread's Connection"),
                ("ask",),
                timed_out,
                holds,
                ENGINE,
                remedy,
                ONE_CONNECTION,
            ),
            Act("hazard", ("Session", "dispose()"), ("use",), INHERITED, SESSION, GOES_ON, remedy),
            Act("control", ("ask", "dispose()"), ("ask",), [RIGHT, OWN, ALIVE], "all checked in", ENGINE, remedy),
        ],
    )


@experiment("fork-nullpool-limits", seeds=["F5"], uses=USES)
def nullpool(effort: Effort) -> Iterator[Arm]:
    thread, options = "a second thread holds a Connection", {"poolclass": "NullPool"}
    held = (("Session", SESSION), ("a thread's Connection", thread))
    own = [RIGHT, OWN, ALIVE]
    yield from acted(
        effort,
        [
            *(Act("hazard", (it,), ("use",), INHERITED, moment, GOES_ON, "NullPool", options) for it, moment in held),
            *(Act("control", (it,), ("ask",), own, moment, ENGINE, "NullPool", options) for it, moment in held),
            Act("control", ("ask",), ("ask",), own, "nothing checked out", ENGINE, "NullPool", options),
        ],
    )


@experiment("fork-remove-in-child-loses-work", seeds=["F6"], uses=USES)
def remove_in_child(effort: Effort) -> Iterator[Arm]:
    moment, polite = "a scoped_session in a transaction", ("remove()", "dispose(close=False)")
    kept = [ALIVE, Check("kept", "==", 2)]
    names = sorted(NETWORK_DRIVERS, key=lambda name: (name not in DRIVERS[:2], NETWORK_DRIVERS.index(name)))
    yield from acted(
        effort,
        [
            Act("hazard", ("scoped_session",), polite, LOST, moment, "remove(), then dispose(close=False)"),
            Act("control", ("scoped_session",), polite[1:], kept, moment, "dispose(close=False)"),
            Act("control", ("scoped_session",), (), kept, moment, "os._exit"),
        ],
        names,
    )


@experiment("fork-sslmode-disable-silences", seeds=["F6"], uses=USES)
def tls_off(effort: Effort) -> Iterator[Arm]:
    checked_in, close = "all checked in", "close() on the inherited Session"
    ask, end = ("ask",), ("close()",)
    silent = [RIGHT, SHARED, ALIVE, NO_ERROR]
    loud = [DEAD, Check("error", "==", 1)]
    yield from acted(
        effort,
        [
            Act("hazard", ask, ask, silent, checked_in, ENGINE),
            Act("hazard", ("Session",), end, LOST, SESSION, close),
            Act("control", ask, ask, [*loud, RIGHT, SHARED], checked_in, ENGINE, tls=True),
            Act("control", ("Session",), end, [*loud, Check("kept", "==", 0)], SESSION, close, tls=True),
        ],
    )


@experiment("fork-pre-ping-is-no-cure", seeds=["F5"], uses=USES)
def pre_ping(effort: Effort) -> Iterator[Arm]:
    moment, options, ask = "all checked in", {"pool_pre_ping": True}, ("ask",)
    acts = []
    for tls, parent in ((False, ALIVE), (True, DEAD)):
        pings, both = [RIGHT, SHARED, parent], [RIGHT, OWN, ALIVE]
        acts += [
            Act("hazard", ask, ask, pings, moment, ENGINE, "pool_pre_ping", options, tls=tls),
            Act("remedy", ask, ask, both, moment, ENGINE, "pool_pre_ping and protect", options, True, tls),
        ]
    yield from acted(effort, acts)


@experiment("fork-reset-on-return-none-no-help", seeds=["F5"], uses=USES)
def reset_none(effort: Effort) -> Iterator[Arm]:
    moment, does, options = "all checked in", "uses the engine, then raw_connection()", {"pool_reset_on_return": None}
    ask, child = ("ask",), ("ask", "raw_connection()")
    leaves, ends = ([RIGHT, SHARED, Check("in_transaction", "==", left)] for left in (True, False))
    yield from acted(
        effort,
        [
            Act("hazard", ask, child, leaves, moment, does, "pool_reset_on_return=None", options),
            Act("control", ask, child, ends, moment, does),
        ],
        ("psycopg2", "psycopg"),
    )


@experiment("fork-multiplies-no-sessions", seeds=["F6"], uses=["lab/scenes/crowd.py", "lab/experiments/moment.py"])
def sessions(effort: Effort) -> Iterator[Arm]:
    before = [Check("before", "==", 1), Check("forked", "==", 1)]
    shares = [*before, Check("asked", "==", 1), Check("backends", "==", 1)]
    opens = [*before, Check("asked", "==", 1 + CHILDREN), Check("backends", "==", CHILDREN)]
    arms = (("hazard", "", False, shares), ("control", "dispose(close=False)", True, opens))
    with databases() as database:
        for name in DRIVERS[: effort.pick(len(DRIVERS), 2)]:
            for role, remedy, separate, checks in arms:
                kind, trials = driver(name).database, effort.pick(3, 1)
                it = Setup(
                    kind, name, False, "os.fork", remedy, CHILDREN, 1, 1, "all checked in", "one after the other asks"
                )
                label = f"{name}, {remedy or 'as inherited'}"

                def run(name=name, kind=kind, separate=separate, trials=trials) -> Iterator[Trial]:
                    engine = arguments(name, database(kind))
                    for _ in range(trials):
                        told = play(
                            "lab.scenes.crowd", engine=engine, database=kind, children=CHILDREN, separate=separate
                        )
                        yield Trial(facts=told)

                yield arm(label, role, it, checks, run)
