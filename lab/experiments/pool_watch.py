"""Whom a pool that timed out tells of, with the recipe leak_watch and without."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.pools import setting
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

USES = ["lab/scenes/pool_watch.py", "recipes/leak_watch.py", "lab/pools.py"]


@experiment("pool-leak-watch-names-the-holder", uses=USES)
def names_the_holder(effort: Effort) -> Iterator[Arm]:
    """Facts: how many lines of what is told name the function that ``leaks`` two Sessions, and the one that
    ``behaves``.
    """
    for name in ("psycopg", "PyMySQL", "asyncpg", "asyncmy")[:: effort.pick(1, 2)]:
        for remedy in ("none", "recipe leak_watch"):
            role: Role = "hazard" if remedy == "none" else "remedy"
            named = 0 if remedy == "none" else 2
            checks = [Check("leaks", "==", named), Check("behaves", "==", 0), Check("error", "==", 1)]
            it = Setup(**setting(name, "2+0"), remedy=remedy)
            yield arm(
                f"{name}, {remedy}", role, it, checks, functools.partial(_trials, name, remedy, effort.pick(3, 1))
            )


def _trials(name: str, remedy: str, count: int) -> Iterator[Trial]:
    for seen in _played(name, count)[remedy]:
        facts = {word: sum(word in line for line in seen["told"].splitlines()) for word in ("leaks", "behaves")}
        message = seen["message"]
        yield Trial(Tally(error=bool(message), messages={message: 1} if message else {}), facts=facts)


@functools.cache
def _played(name: str, count: int) -> dict[str, list[dict[str, str]]]:
    with start(driver(name).database) as database:
        how = {"engine": arguments(name, database), "loop": driver(name).loop}
        return play("lab.scenes.pool_watch", **how, count=count)
