"""A Session that is in the middle of a call of A's: what each call of B's is told, and what becomes of A's."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.shared_session import chosen
from lab.process import play
from lab.scenes.shared_lanes import OK
from lab.scenes.shared_money import EACH, ONE
from lab.scenes.shared_states import CALLS
from lab.shapes import Arm, Check, Role, Setup, Trial

SCENE = "lab.scenes.shared_states"
USES = [
    "lab/scenes/shared_states.py", "lab/scenes/shared_money.py", "lab/scenes/shared_lanes.py",
    "lab/experiments/shared_session.py",
]  # fmt: skip
ISCE = " (Background on this error at: https://sqlalche.me/e/21/isce)"
PROVISIONING = (
    "sqlalchemy.exc.InvalidRequestError: This session is provisioning a new connection; "
    f"concurrent operations are not permitted{ISCE}"
)
PREPARED = (
    "sqlalchemy.exc.InvalidRequestError: This session is in 'prepared' state; "
    "no further SQL can be emitted within this transaction."
)
FLUSHING = "sqlalchemy.exc.InvalidRequestError: Session is already flushing"
BEGUN = "sqlalchemy.exc.InvalidRequestError: A transaction is already begun on this Session."
ENDINGS = ("commit()", "rollback()", "close()")
Told = Mapping[str, Mapping[str, str]]


def illegal(call: str, within: str) -> str:
    return (
        f"sqlalchemy.exc.IllegalStateChangeError: Method '{call}' can't be called here; method '{within}' is already "
        f"in progress and this would cause an unexpected state change to <SessionTransactionState.CLOSED: 5>{ISCE}"
    )


@experiment("shared-session-provisioning", seeds=["T3"], uses=USES)
def provisioning(effort: Effort) -> Iterator[Arm]:
    calls = dict.fromkeys(("execute()", "commit()", "rollback()"), PROVISIONING)
    told = {"connects": {**calls, "close()": illegal("close()", "_connection_for_bind()")}}
    yield from _arms(effort, told, "error")


@experiment("shared-session-illegal-state-change", seeds=["T3"], uses=USES)
def state_change(effort: Effort) -> Iterator[Arm]:
    told = {
        moment: {call: illegal(call, within) for call in ENDINGS}
        for moment, within in (("commits", "commit()"), ("rolls back", "rollback()"))
    }
    yield from _arms(effort, told, "error")


@experiment("shared-session-prepared", seeds=["T3"], uses=USES)
def prepared(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, {"commits": {"execute()": PREPARED}}, "error")


@experiment("shared-session-already-flushing", seeds=["T3"], uses=USES)
def flushing(effort: Effort) -> Iterator[Arm]:
    told = {moment: {"flush()": FLUSHING} for moment in ("begins a flush", "sends a flush")}
    yield from _arms(effort, told, "error")


@experiment("shared-session-already-begun", seeds=["T3"], uses=USES)
def begun(effort: Effort) -> Iterator[Arm]:
    yield from _arms(effort, {"is between two statements": {"begin()": BEGUN}}, "error")


@experiment("shared-session-error-in-one-loss-in-the-other", seeds=["T3"], uses=USES)
def loss_in_the_other(effort: Effort) -> Iterator[Arm]:
    within = "_prepare_impl()"
    yield from _arms(effort, {"begins a flush": {"close()": illegal("close()", within)}}, "lost")
    told = {"sends a flush": {call: illegal(call, within) for call in ENDINGS}}
    yield from _arms(effort, told, "both fail")
    # The cells beside it lose the same without a word.
    yield from _arms(effort, {"is between two statements": dict.fromkeys(ENDINGS[1:], OK)}, "lost")


def _arms(effort: Effort, told: Told, outcome: str) -> Iterator[Arm]:
    """By moment of A's: what B must be *told* with one Session, and the *outcome* of these calls; and with one each."""
    for name in chosen(effort):
        for moment, messages in told.items():
            wrong = [Check(call, "==", outcome) for call in messages]
            wrong += [Check(f"B's {call}", "==", message) for call, message in messages.items()]
            right = [Check(call, "==", "right") for call in CALLS]
            yield _arm(effort, name, "hazard", ONE, moment, wrong, messages)
            yield _arm(effort, name, "remedy", EACH, moment, right, ())


def _arm(effort: Effort, name: str, role: Role, scope: str, moment: str, checks: list[Check], told: Any) -> Arm:
    """Facts: by call of B's what became of both, and what A ``says`` and B; of the calls in *told* also B's alone."""
    setup = Setup(driver(name).database, name, moment=moment, scope=scope)

    def run() -> Iterator[Trial]:
        before: dict[str, Any] = {}
        for cells in _played(name, effort.pick(5, 1))[scope][moment]:
            facts: dict[str, Any] = {call: seen["outcome"] for call, seen in cells.items()}
            facts |= {f"B's {call}": cells[call]["B"] for call in told}
            says = {call: _says(seen) for call, seen in cells.items()}
            yield Trial(facts=facts | ({"says": says} if says != before else {}))
            before = says

    return arm(f"{name}, A {moment}, {scope}", role, setup, checks, run)


def _says(seen: Mapping[str, Any]) -> str:
    return f"A: {seen['A']}. B: {seen['B']}. Stored: {seen['stored'][0]} and {seen['stored'][1]}"


@functools.cache
def _played(name: str, trials: int) -> dict[str, Any]:
    with start(driver(name).database) as database:
        return play(SCENE, engine=arguments(name, database), trials=trials, patience=300)
