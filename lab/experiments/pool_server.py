"""The pool and the server: what all processes may open, and what a server-side timeout does to a leak."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.pools import APP, as_app, limited, setting
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Tally, Trial

SYNC = ("psycopg", "PyMySQL")
POOLS = "lab/pools.py"
# So that an ordinary account gets 12 of either.
LIMITS, TAKES = {"postgresql": 15, "mariadb": 12}, 12
# What MariaDB keeps for those who may administer it comes on top; of PostgreSQL's it is a part.
ALL = {"postgresql": 15, "mariadb": 13}
# workers, engines, size, overflow, others, NullPool, superuser
Cell = tuple[int, int, int, int, int, bool, bool]
FIELDS = ("workers", "engines", "size", "overflow", "others", "null")
BUDGETS: dict[str, Cell] = {
    "3 workers x (2 + 2)": (3, 1, 2, 2, 0, False, False),
    "3 workers x (2 + 3)": (3, 1, 2, 3, 0, False, False),
    "4 workers x (2 + 2)": (4, 1, 2, 2, 0, False, False),
    "3 workers x 2 engines x (2 + 2)": (3, 2, 2, 2, 0, False, False),
    "3 workers x 2 engines x (1 + 1)": (3, 2, 1, 1, 0, False, False),
    "3 workers x (2 + 2), 1 other": (3, 1, 2, 2, 1, False, False),
    "3 workers x NullPool, 5 threads": (3, 1, 5, 0, 0, True, False),
    "4 workers x (2 + 2), superuser": (4, 1, 2, 2, 0, False, True),
}


AT_THE_GATE = [
    "3 workers x (2 + 2)",
    "3 workers x (2 + 3)",
    "3 workers x 2 engines x (1 + 1)",
    "3 workers x (2 + 2), 1 other",
]


@experiment("pool-budget-against-the-server", uses=["lab/scenes/pool_budget.py", "recipes/pool_budget.py", POOLS])
def budget(effort: Effort) -> Iterator[Arm]:
    """Facts: ``budget``, what all pools together may open, and others; ``takes``, what the server takes; what the
    ``recipe`` pool_budget says of it beforehand.
    """
    names = SYNC if effort.name == "record" else SYNC[:1]
    for name in names:
        kind = driver(name).database
        budgets = list(BUDGETS) if effort.name == "record" else AT_THE_GATE
        for told in budgets:
            cell = BUDGETS[told]
            workers, engines, size, overflow, others, null, superuser = cell
            asked = workers * engines * (size + overflow)
            takes = ALL[kind] if superuser else TAKES
            errors = max(0, asked + others - takes)
            checks = [
                Check("right", "==", asked - errors),
                Check("error", "==", errors),
                Check("refused", "==", bool(errors)),
            ]
            fields = {
                "workers": workers,
                "request": told,
                "held": "a superuser" if superuser else "an ordinary account",
            }
            it = Setup(**setting(name, "NullPool" if null else f"{size}+{overflow}"), **fields)
            facts = {"budget": asked + others, "takes": takes}
            role: Role = "hazard" if errors else "control" if engines == 1 else "remedy"
            run = functools.partial(_budget_trials, name, tuple(budgets), effort.pick(3, 1), told, facts)
            yield arm(f"{name}, {told}", role, it, checks, run)


def _budget_trials(
    name: str, budgets: tuple[str, ...], count: int, told: str, facts: Mapping[str, int]
) -> Iterator[Trial]:
    for seen in _budgets(name, budgets, count)[told]:
        messages = [re.sub(r"port \d+", "port …", message) for message in seen["messages"]]
        refused = bool(messages) and all("slots are reserved" in m or "too many c" in m.lower() for m in messages)
        tally = Tally(seen["right"], error=seen["errors"], messages=dict.fromkeys(messages, seen["errors"]))
        recipe = "passes" if seen["passes"] else "refuses"
        yield Trial(tally, facts={**facts, "refused": refused, "recipe": recipe})


@functools.cache
def _budgets(name: str, budgets: tuple[str, ...], count: int) -> dict[str, list[dict[str, Any]]]:
    kind = driver(name).database
    with limited(kind, LIMITS[kind]) as database:
        own, app = arguments(name, database), as_app(name, database)
        cells = [
            {**dict(zip(FIELDS, cell, strict=False)), "engine": own if cell[-1] else app}
            for cell in map(BUDGETS.get, budgets)
            for _ in range(count)
        ]
        found = play("lab.scenes.pool_budget", own=own, cells=cells, patience=300)
    return {told: found[at * count : (at + 1) * count] for at, told in enumerate(budgets)}


TIMEOUT = {
    "postgresql": f"alter role {APP} set idle_in_transaction_session_timeout = '300ms'",
    "mariadb": "set global idle_transaction_timeout = 1",
}
# The server's timeout, whether the Session is closed, options of the engine
BACKSTOPS: dict[str, tuple[bool, bool, dict[str, Any]]] = {
    "no timeout": (False, False, {}),
    "the server's timeout": (True, False, {}),
    "the server's timeout, pool_pre_ping": (True, False, {"pool_pre_ping": True}),
    "close()": (True, True, {}),
}


@experiment("pool-idle-timeout-is-a-backstop", uses=["lab/scenes/pool_backstop.py", POOLS])
def backstop(effort: Effort) -> Iterator[Arm]:
    """Facts: the leaked ``connection`` and its locked ``row`` on the server; ``checked out`` of the pool's one; what
    ``another`` Session gets; what the leaking one's ``next`` statement, the one ``again`` after it, and one ``after
    rollback`` get: "right" or "error", with the messages in ``says``.
    """
    for name in SYNC[: effort.pick(2, 1)]:
        for told, (ends, closes, _) in BACKSTOPS.items():
            words = {"connection": "open", "row": "locked", "checked out": 1, "another": "error", "next": "right"}
            words |= {"again": "right", "after rollback": "right", "closed": "right"}
            if closes:
                words |= {"row": "free", "checked out": 0, "another": "right"}
            elif ends:
                words |= {"connection": "ended", "row": "free", "next": "error", "again": "error"}
            role: Role = "remedy" if closes else "hazard" if ends else "control"
            it = Setup(**setting(name, "1+0"), remedy=told)
            checks = [Check(key, "==", value) for key, value in words.items()]
            yield arm(
                f"{name}, {told}", role, it, checks, functools.partial(_backstop_trials, name, effort.pick(3, 1), told)
            )


def _backstop_trials(name: str, count: int, told: str) -> Iterator[Trial]:
    for seen in _backstops(name, count)[told]:
        states = ("another", "next", "again", "after rollback", "closed")
        says = {key: seen[key] for key in states if seen[key] != "right"}
        words = {key: "right" if seen[key] == "right" else "error" for key in states}
        yield Trial(facts={**seen, **words, "says": says})


@functools.cache
def _backstops(name: str, count: int) -> dict[str, list[dict[str, Any]]]:
    kind, found = driver(name).database, {}
    with limited(kind, 50) as database:
        if kind == "postgresql":
            database.ask("alter default privileges grant all on tables to public")
        how = {"engine": as_app(name, database), "own": arguments(name, database)}
        for ends in (False, True):
            if ends:
                database.ask(TIMEOUT[kind])
            told = [key for key, (its, _, _) in BACKSTOPS.items() if its == ends]
            cells = [dict(zip(("ends", "closes", "options"), BACKSTOPS[key], strict=True)) for key in told]
            seen = play("lab.scenes.pool_backstop", **how, cells=[cell for cell in cells for _ in range(count)])
            found |= {key: seen[at * count : (at + 1) * count] for at, key in enumerate(told)}
    return found
