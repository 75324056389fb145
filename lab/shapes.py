"""The shapes that travel through the lab: small, frozen, the same for every topic.

``Setup`` says what was set up, ``Outcome`` what became of one request or step, ``Tally`` what was seen in one trial,
``Survival`` what became of the parent. An ``Arm`` is one setup tried several times; ``Evidence`` is all arms of one
claim; ``Verdict`` is what :func:`lab.judge.judge` makes of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

OutcomeKind = Literal["right", "wrong", "error", "hung"]
Role = Literal["hazard", "control", "remedy"]
VerdictKind = Literal["reproduced", "refuted", "depends", "not run"]


@dataclass(frozen=True)
class Setup:
    """What was set up. Empty fields do not apply to the experiment.

    ``server`` is whoever forks or serves, ``moment`` what the parent was doing when it happened, ``child`` what the
    child does. For what is read: ``isolation`` is the transaction's, ``held`` says whether something keeps the object,
    ``read`` how it is read. For requests: ``framework`` is what the application is written for, ``request`` its kind;
    ``mode`` is the server's, and each of ``workers`` processes has so many ``threads``. For what is shared: ``scope``
    says whose a Session is, ``pool`` how many connections there may be (size + overflow).
    """

    database: str = ""
    driver: str = ""
    tls: bool = False
    server: str = ""
    remedy: str = ""
    workers: int = 0
    requests: int = 0
    concurrency: int = 0
    moment: str = ""
    child: str = ""
    isolation: str = ""
    held: str = ""
    read: str = ""
    framework: str = ""
    request: str = ""
    mode: str = ""
    threads: int = 0
    scope: str = ""
    pool: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one request or step; ``message`` is verbatim and only set for errors."""

    kind: OutcomeKind
    message: str = ""


@dataclass(frozen=True)
class Tally:
    """Outcomes counted. ``first_bad`` is the 1-based position of the first answer that was not right."""

    right: int = 0
    wrong: int = 0
    error: int = 0
    hung: int = 0
    first_bad: int | None = None
    messages: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> Tally:
        """Count *outcomes*, which come in the order in which they were answered."""
        seen = list(outcomes)
        kinds = Counter(outcome.kind for outcome in seen)
        first = next((n for n, outcome in enumerate(seen, 1) if outcome.kind != "right"), None)
        messages = Counter(outcome.message for outcome in seen if outcome.kind == "error")
        return cls(kinds["right"], kinds["wrong"], kinds["error"], kinds["hung"], first, dict(messages.most_common()))

    @property
    def bad(self) -> int:
        return self.wrong + self.error + self.hung

    @property
    def total(self) -> int:
        return self.right + self.bad


@dataclass(frozen=True)
class Survival:
    """Does the parent's connection still work afterwards?"""

    state: Literal["alive", "dead", "transaction lost"]
    message: str = ""


@dataclass(frozen=True)
class Trial:
    """One run of one setup: what was counted, how the parent fared, and other facts that were read off."""

    tally: Tally = Tally()
    survival: Survival | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def value(self, name: str) -> Any:
        """Look *name* up among the facts, the survival (``parent``) and the tally.

        Raises:
            KeyError: the trial recorded nothing under that name.
        """
        if name in self.facts:
            return self.facts[name]
        if name == "parent":
            return self.survival.state if self.survival else None
        if name in ("bad", "total") or name in {f.name for f in fields(Tally)}:
            return getattr(self.tally, name)
        raise KeyError(f"the trial recorded no {name!r}")


@dataclass(frozen=True)
class Check:
    """A condition on an arm: ``every`` trial, or at least ``some`` trial, has ``field op value``."""

    field: str
    op: Literal["==", "!=", ">=", "<=", ">", "<"]
    value: Any
    of: Literal["every", "some"] = "every"

    def __str__(self) -> str:
        return f"{self.field} {self.op} {self.value} in {self.of} trial"


@dataclass(frozen=True)
class Arm:
    """One setup, tried several times, and what its role in the claim demands of it.

    ``not_run`` is a line that says what was missing; such an arm has no trials and proves nothing.
    """

    name: str
    role: Role
    setup: Setup
    checks: tuple[Check, ...]
    trials: tuple[Trial, ...] = ()
    not_run: str = ""


@dataclass(frozen=True)
class Evidence:
    """What is on file for one claim."""

    claim: str
    arms: tuple[Arm, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""
    digest: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        return cls(**{**data, "arms": tuple(_arm(arm) for arm in data["arms"])})


@dataclass(frozen=True)
class Verdict:
    """What evidence says of a claim. ``on`` names the arms that made it depend, or that refuted it."""

    kind: VerdictKind
    on: tuple[str, ...] = ()


def _arm(data: Mapping[str, Any]) -> Arm:
    return Arm(
        **{
            **data,
            "setup": Setup(**data["setup"]),
            "checks": tuple(Check(**check) for check in data["checks"]),
            "trials": tuple(
                Trial(
                    Tally(**trial["tally"]),
                    Survival(**trial["survival"]) if trial["survival"] else None,
                    trial["facts"],
                )
                for trial in data["trials"]
            ),
        }
    )
