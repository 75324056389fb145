"""What tests expect of claims that depend."""

from lab.evidence import load
from lab.judge import judge
from lab.shapes import Evidence


def depends_as_on_file(evidence: Evidence) -> None:
    """Fail unless it depends on those arms on which the record depends, as far as they could be run here."""
    ran = {arm.name for arm in evidence.arms if not arm.not_run}
    expected = set(judge(load(evidence.claim)).on) & ran
    verdict = judge(evidence)

    assert ("depends" if expected else "reproduced") == verdict.kind
    assert expected == set(verdict.on)
