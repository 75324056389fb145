"""What people do about it: which options and hooks cure a prefork server, and which spare the master (U5, U7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lab.evidence import Effort, arm, experiment
from lab.shapes import Arm, Check, Role, Setup
from lab.trials import NETWORK_DRIVERS, SOURCES, first_question, label, setup, whole_life

USES = [*SOURCES, "recipes/fork_safe_engine.py", "recipes/uwsgi_postfork.py"]
STACKS = [*((name, False) for name in NETWORK_DRIVERS), ("psycopg2", True), ("PyMySQL", True)]
CURES = (
    "lazy",
    "lazy-apps",
    "@postfork, dispose(close=False)",
    "@postfork, dispose()",
    "hook-post-fork, rpc",
    "dispose() at the end of import",
    "NullPool",
    "documented pid guard",
    "os.register_at_fork, py-call-osafterfork",
    "os.register_at_fork, py-call-uwsgi-fork-hooks",
    "recipe fork_safe_engine",
    "recipe uwsgi_postfork",
)
NON_CURES = (
    "os.register_at_fork",
    "pool_pre_ping=True",
    "pool_recycle=3600",
    "pool_reset_on_return=None",
    "isolation_level=AUTOCOMMIT",
    "close-on-exec",
)
CURED = [Check("own", "==", 4), Check("own_respawned", "==", 4), Check("bad", "==", 0), Check("total", "==", 200)]
ALIVE, DEAD = Check("parent", "==", "alive"), Check("parent", "==", "dead")


def _all(remedies: Iterable[str], stacks: Iterable[tuple[str, bool]] = STACKS) -> list[Setup]:
    stacks = list(stacks)
    return [setup(name, tls=tls, remedy=remedy) for remedy in remedies for name, tls in stacks]


def _lives(its: Iterable[Setup], role: Role, checks: Sequence[Check], effort: Effort) -> Iterator[Arm]:
    for it in its:
        yield arm(label(it), role, it, checks, lambda it=it: whole_life(it, effort.pick(2, 1)))


def _questions(its: Iterable[Setup], role: Role, checks: Sequence[Check], effort: Effort) -> Iterator[Arm]:
    for it in its:
        yield arm(label(it), role, it, checks, lambda it=it: first_question(it, effort.pick(3, 1)))


@experiment("uwsgi-remedies-cure", seeds=["U5", "U7"], uses=USES)
def remedies_cure(effort: Effort) -> Iterator[Arm]:
    yield from _questions(_all(["none"]), "hazard", [Check("own", "==", 0)], effort)
    yield from _lives(_all(CURES), "remedy", CURED, effort)


@experiment("uwsgi-non-cures", seeds=["U7"], uses=USES)
def non_cures(effort: Effort) -> Iterator[Arm]:
    yield from _questions(_all(NON_CURES), "hazard", [Check("own", "<", 4)], effort)
    yield from _lives(_all(["lazy-apps"]), "control", CURED, effort)


@experiment("uwsgi-register-at-fork-needs-an-option", seeds=["U7"], uses=USES)
def register_at_fork(effort: Effort) -> Iterator[Arm]:
    yield from _questions(_all(["os.register_at_fork"]), "hazard", [Check("own", "==", 0)], effort)
    switched_on = [name for name in CURES if name.startswith("os.register_at_fork")]
    yield from _lives(_all(switched_on), "remedy", CURED, effort)


@experiment("uwsgi-dispose-kills-the-master", seeds=["U7"], uses=USES)
def dispose_kills(effort: Effort) -> Iterator[Arm]:
    yield from _lives(_all(["@postfork, dispose()"]), "hazard", [DEAD], effort)
    yield from _lives(_all(["recipe uwsgi_postfork"]), "control", [ALIVE], effort)


@experiment("uwsgi-close-false-spares-the-master", seeds=["U7"], uses=USES)
def close_false_spares(effort: Effort) -> Iterator[Arm]:
    yield from _lives(_all(["@postfork, dispose()"]), "hazard", [DEAD], effort)
    yield from _lives(_all(["@postfork, dispose(close=False)"]), "remedy", [ALIVE], effort)


@experiment("uwsgi-pid-guard-spares-the-master", seeds=["U7"], uses=USES)
def pid_guard_spares(effort: Effort) -> Iterator[Arm]:
    yield from _lives(_all(["@postfork, dispose()"]), "hazard", [DEAD], effort)
    yield from _lives(_all(["documented pid guard"]), "remedy", [ALIVE], effort)


@experiment("recipes-spare-the-master", seeds=["U7"], uses=USES)
def recipes_spare(effort: Effort) -> Iterator[Arm]:
    yield from _lives(_all(["@postfork, dispose()"]), "hazard", [DEAD], effort)
    yield from _lives(_all(["recipe fork_safe_engine", "recipe uwsgi_postfork"]), "remedy", [*CURED, ALIVE], effort)
