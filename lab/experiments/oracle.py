"""The source's own database, wherever one is given: set ``ORACLE_URL`` and run ``make evidence`` (U3).

Without it nothing here exists, and no page claims anything of Oracle. With it, the claim can be recorded, and stated.
"""

from __future__ import annotations

from collections.abc import Iterator

from lab import components
from lab.evidence import Effort, arm, experiment
from lab.shapes import Arm, Check
from lab.trials import SOURCES, first_question, label, setup

DRIVERS = ("python-oracledb", "cx_Oracle")


def breaks(effort: Effort) -> Iterator[Arm]:
    """``own``: how many of four workers answer over a connection of their own."""
    for remedy, role, check in (
        ("none", "hazard", Check("own", "==", 0)),
        ("lazy-apps", "control", Check("own", "==", 4)),
        ("recipe uwsgi_postfork", "remedy", Check("own", "==", 4)),
        ("recipe fork_safe_engine", "remedy", Check("own", "==", 4)),
    ):
        for name in DRIVERS:
            it = setup(name, remedy=remedy)
            yield arm(label(it), role, it, [check], lambda it=it: first_question(it, effort.pick(20, 1)))


if components.find("oracle"):
    uses = [*SOURCES, "recipes/uwsgi_postfork.py", "recipes/fork_safe_engine.py"]
    experiment("uwsgi-prefork-breaks-oracle", seeds=["U3"], uses=uses)(breaks)
