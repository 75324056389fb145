"""One global Session for all greenlets of a worker, as the advice goes, under patches that came in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.scenes.advice_greenlets import EACH, GLOBAL, GREENLETS, PAIRS
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

USES = ("lab/scenes/advice_greenlets.py", "lab/scenes/task_common.py")
WAYS: tuple[tuple[Role, str, Mapping[str, Any]], ...] = (
    ("hazard", GLOBAL, {"right": 1, "error": GREENLETS - 1, "acknowledged": PAIRS, "kept": 0, "foreign": PAIRS}),
    ("remedy", EACH, {"right": GREENLETS, "error": 0, "acknowledged": PAIRS, "kept": PAIRS, "foreign": 0}),
)


@experiment("advice-global-session-greenlets", uses=USES)
def greenlets(effort: Effort) -> Iterator[Arm]:
    """``acknowledged`` and ``kept`` are writes beside rollbacks, ``foreign`` are writes that were rolled back."""
    for name in ("PyMySQL", "psycopg")[: effort.pick(2, 1)]:
        for role, way, values in WAYS:
            it = Setup(driver(name).database, name, concurrency=GREENLETS, scope=way)
            checks = [Check(field, "==", value) for field, value in values.items()]

            def run(name: str = name, way: str = way) -> Iterator[Trial]:
                with start(driver(name).database) as database:
                    told = {"engine": arguments(name, database), "database": database.kind, "way": way}
                    for _ in range(effort.pick(5, 1)):
                        row = play("lab.scenes.advice_greenlets", patience=240, **told)
                        outcomes = [Outcome(each["kind"], each.get("message", "")) for each in row.pop("outcomes")]
                        yield Trial(Tally.of(outcomes), facts=row)

            yield arm(f"{way}, {name}", role, it, checks, run)
