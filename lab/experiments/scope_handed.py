"""Scopes by a key, and objects that are handed to another thread."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab.drivers import driver
from lab.evidence import Effort, arm, experiment
from lab.experiments.scope_threads import SERVERS, USES, equal, of, setup
from lab.scenes import scope_keys, scope_objects
from lab.shapes import Arm, Check, Role, Setup

RUNS = "lab/experiments/scope_threads.py"
KEYS, OBJECTS = [*USES, RUNS, "lab/scenes/scope_keys.py"], [*USES, RUNS, "lab/scenes/scope_objects.py"]


@experiment("scope-thread-ids-come-back", uses=KEYS)
def ids(effort: Effort) -> Iterator[Arm]:
    """Facts: whether a thread was ``handed`` a dead one's Session, ``at_thread``; see the scene."""
    kept_apart = equal({"handed": False, "same_id": True, "dirty": 0})
    handed = [*equal({"handed": True, "same_id": True}), Check("dirty", ">=", 1)]
    roles: dict[str, Role] = {scope_keys.BY_ID: "hazard", scope_keys.BY_THREAD: "control"}
    for name in SERVERS[: effort.pick(2, 1)]:
        for scope in scope_keys.IDS:
            run = functools.partial(of, "keys", name, effort, "ids", scope)
            role = roles.get(scope, "remedy")
            yield arm(f"{scope}, {name}", role, setup(name, scope), handed if role == "hazard" else kept_apart, run)


@experiment("scope-context-is-not-a-thread", uses=KEYS)
def contexts(effort: Effort) -> Iterator[Arm]:
    """Facts: how many ``sessions`` two threads have, what became of "A's change", and how many were ``refused``."""
    roles: dict[str, Role] = {scope_keys.BY_VALUE: "hazard", scope_keys.RECIPE: "remedy"}
    for name in SERVERS[: effort.pick(2, 1)]:
        for where, scopes in scope_keys.CONTEXTS.items():
            for scope in scopes:
                role = roles.get(scope, "control")
                refused = int(role == "remedy" and where == "copies of one context")
                sessions = 1 if role == "hazard" or refused else 2
                word = "lost" if role == "hazard" else "right"
                checks = equal({"sessions": sessions, "A's change": word, "refused": refused})
                run = functools.partial(of, "keys", name, effort, f"contexts, {where}", scope)
                it = Setup(driver(name).database, name, moment=where, scope=scope)
                yield arm(f"{where}, {scope}, {name}", role, it, checks, run)


@experiment("scope-object-brings-its-session", uses=OBJECTS)
def objects(effort: Effort) -> Iterator[Arm]:
    """Facts: words by row, and whether B's lazy load was "over A's connection"."""
    rows = (scope_objects.LAZY, scope_objects.COMMITTED, scope_objects.REMOVED, scope_objects.ADDED)
    expected: dict[str, tuple[Role, tuple[str, ...], bool]] = {
        scope_objects.OBJECT: ("hazard", ("dirty", "leaked", "error", "error"), True),
        scope_objects.GUARDED: ("control", ("error",) * 4, False),
        **dict.fromkeys(
            (scope_objects.KEY, scope_objects.MERGE, scope_objects.EXPUNGED), ("remedy", ("right",) * 4, False)
        ),
    }
    for name in SERVERS[: effort.pick(2, 1)]:
        for handed, (role, words, shared) in expected.items():
            checks = equal({**dict(zip(rows, words, strict=True)), "over A's connection": shared})
            run = functools.partial(of, "objects", name, effort, "told", handed)
            it = Setup(driver(name).database, name, held=handed, scope="scoped_session")
            yield arm(f"{handed}, {name}", role, it, checks, run)
