"""The judge: a pure function from evidence to a verdict, shared by tests, notebooks and pages."""

from __future__ import annotations

import operator
from dataclasses import replace

from lab.shapes import Arm, Check, Evidence, Trial, Verdict

_OPS = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def judge(evidence: Evidence) -> Verdict:
    """Say whether *evidence* supports its claim.

    The hazard and control arms are the ground to stand on: when one of them does not behave as the claim says, the
    claim is **refuted**, whatever the remedies did. Then the remedies decide: all hold, **reproduced**; none,
    **refuted**; some, it **depends**, and ``Verdict.on`` names those that do not hold. Arms that were not run are
    left aside; a claim needs at least two arms that ran, one of them a hazard or a control and one of them no
    hazard, and of its hazards and of its remedies at least one each, or it is **not run**.
    """
    ran = [arm for arm in evidence.arms if not arm.not_run]
    ground = [arm for arm in ran if arm.role != "remedy"]
    remedies = [arm for arm in ran if arm.role == "remedy"]
    # What was to fail and what was to cure it must both have been seen.
    needed = {arm.role for arm in evidence.arms} - {"control"}
    roles = {arm.role for arm in ran}
    if not ground or len(ran) < 2 or roles == {"hazard"} or needed - roles:
        return Verdict("not run", tuple(arm.name for arm in evidence.arms if arm.not_run))
    broken = tuple(arm.name for arm in ground if not holds(arm))
    if broken:
        return Verdict("refuted", broken)
    failed = tuple(arm.name for arm in remedies if not holds(arm))
    if not failed:
        return Verdict("reproduced")
    return Verdict("refuted" if len(failed) == len(remedies) else "depends", failed)


def holds(arm: Arm) -> bool:
    """Tell whether an arm that ran did all that its role demands; an arm without a trial or a check never holds."""
    return bool(arm.trials and arm.checks) and all(_passes(check, arm.trials) for check in arm.checks)


def swap(evidence: Evidence) -> Evidence:
    """Give every remedy and control the trials of its hazard: the test of the test.

    A claim whose verdict stays the same after this never told hazard and remedy apart.
    """
    hazards = [arm for arm in evidence.arms if arm.role == "hazard" and not arm.not_run]
    if not hazards:
        raise ValueError(f"{evidence.claim} has no hazard arm that ran")

    def swapped(arm: Arm) -> Arm:
        if arm.role == "hazard" or arm.not_run:
            return arm
        twin = next((h for h in hazards if _kin(h, arm)), hazards[0])
        return replace(arm, trials=twin.trials)

    return replace(evidence, arms=tuple(swapped(arm) for arm in evidence.arms))


def _kin(hazard: Arm, arm: Arm) -> bool:
    return (hazard.setup.driver, hazard.setup.tls) == (arm.setup.driver, arm.setup.tls)


def _passes(check: Check, trials: tuple[Trial, ...]) -> bool:
    met = (_met(check, trial) for trial in trials)
    return all(met) if check.of == "every" else any(met)


def _met(check: Check, trial: Trial) -> bool:
    value = trial.value(check.field)
    return value is not None and _OPS[check.op](value, check.value)
