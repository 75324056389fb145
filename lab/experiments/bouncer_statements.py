"""Prepared statements behind a PgBouncer in transaction mode: driver by driver, setting by setting."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.pgbouncer import bouncers
from lab.process import play
from lab.shapes import Arm, Check, Role, Setup, Trial

USES = ["lab/pgbouncer.py", "lab/scenes/bouncer_clients.py", "lab/scenes/bouncer_statements.py"]
SAME, NEW, OTHERS = "after another client", "moved to a new connection", "moved to another client's"
OUT_OF_THE_BOX, POOL_MODE = "none", "transaction"

# What create_engine is told of asyncpg: SQLAlchemy's cache, asyncpg's own, and who names statements.
OURS, THEIRS = "prepared_statement_cache_size=0", "statement_cache_size=0"
BOTH, NAMES, NULL_POOL = f"{OURS}, {THEIRS}", "name function", "NullPool"
_CACHES = {
    OUT_OF_THE_BOX: {},
    OURS: {"prepared_statement_cache_size": 0},
    THEIRS: {"statement_cache_size": 0},
    BOTH: {"prepared_statement_cache_size": 0, "statement_cache_size": 0},
}


def _asyncpg(null_pool: bool) -> dict[str, dict[str, Any]]:
    more = {"null_pool": True} if null_pool else {}
    return {
        _label(caches, *([NAMES] if names else []), *([NULL_POOL] if null_pool else [])): {
            "connect_args": sizes,
            "names": names,
            **more,
        }
        for names in (False, True)
        for caches, sizes in _CACHES.items()
    }


def _label(*words: str) -> str:
    return ", ".join([word for word in words if word != OUT_OF_THE_BOX] or [OUT_OF_THE_BOX])


_NONE: dict[str, dict[str, Any]] = {OUT_OF_THE_BOX: {}}
_PSYCOPG = {
    **_NONE,
    "prepare_threshold=None": {"connect_args": {"prepare_threshold": None}},
}
_PRE_PING = {f"{THEIRS}, pool_pre_ping": {"connect_args": _CACHES[THEIRS], "pool_pre_ping": True}}
_POOLED, _UNPOOLED = {**_asyncpg(False), **_PRE_PING}, _asyncpg(True)
_FIRST, _GATED = (OUT_OF_THE_BOX, THEIRS), (NULL_POOL, f"{THEIRS}, {NULL_POOL}")
# What is played in one go with one driver: few enough for the server's hundred connections.
SETTINGS = {
    "psycopg2": [_NONE],
    "pg8000": [_NONE],
    "psycopg": [_PSYCOPG],
    "psycopg async": [_PSYCOPG],
    "asyncpg": [
        {setting: _POOLED[setting] for setting in _FIRST},
        {setting: more for setting, more in _POOLED.items() if setting not in _FIRST},
        {setting: _UNPOOLED[setting] for setting in _GATED},
        {setting: more for setting, more in _UNPOOLED.items() if setting not in _GATED},
    ],
}
CURES = {
    "psycopg": "prepare_threshold=None",
    "psycopg async": "prepare_threshold=None",
    "asyncpg": THEIRS,
}
RIGHT = dict.fromkeys((SAME, NEW, OTHERS), "right")
BROKEN = {SAME: "error", NEW: "error", OTHERS: "wrong"}
_played: dict[tuple[str, int, int], dict[str, Any]] = {}


@experiment("pgbouncer-prepared-statements", uses=USES)
def prepared(effort: Effort) -> Iterator[Arm]:
    yield from _by_driver(effort, (SAME, NEW))


@experiment("pgbouncer-runs-anothers-statement", uses=USES)
def anothers(effort: Effort) -> Iterator[Arm]:
    yield from _by_driver(effort, (OTHERS,))


@experiment("pgbouncer-asyncpg-settings", uses=USES)
def settings(effort: Effort) -> Iterator[Arm]:
    """Which of the settings that are passed on is right, alone and together; for the gate, less of it."""
    same, gone = {**RIGHT, SAME: "error"}, {**RIGHT, NEW: "error", OTHERS: "error"}
    expected = {
        OUT_OF_THE_BOX: BROKEN,
        OURS: same,
        THEIRS: RIGHT,
        BOTH: RIGHT,
        NAMES: gone,
        _label(OURS, NAMES): RIGHT,
        _label(THEIRS, NAMES): gone,
        _label(BOTH, NAMES): RIGHT,
        f"{THEIRS}, pool_pre_ping": RIGHT,
        NULL_POOL: same,
        _label(OURS, NULL_POOL): same,
        _label(THEIRS, NULL_POOL): RIGHT,
        _label(BOTH, NULL_POOL): RIGHT,
        _label(NAMES, NULL_POOL): RIGHT,
        _label(OURS, NAMES, NULL_POOL): RIGHT,
        _label(THEIRS, NAMES, NULL_POOL): RIGHT,
        _label(BOTH, NAMES, NULL_POOL): RIGHT,
    }
    with _stage() as played:
        for setting, words in expected.items():
            if setting in SETTINGS["asyncpg"][-1] and effort.pick(0, 1):
                continue
            role: Role = "remedy" if words == RIGHT else "hazard"
            yield _arm(effort, played, "asyncpg", setting, role, words)


def _by_driver(effort: Effort, rows: tuple[str, ...]) -> Iterator[Arm]:
    with _stage() as played:
        for name in SETTINGS:
            role: Role = "hazard" if name in CURES else "control"
            words = BROKEN if name in CURES else RIGHT
            yield _arm(effort, played, name, OUT_OF_THE_BOX, role, {row: words[row] for row in rows})
            if name in CURES:
                yield _arm(effort, played, name, CURES[name], "remedy", {row: "right" for row in rows})


Played = Callable[[str, int, int], dict[str, Any]]


def _arm(effort: Effort, played: Played, name: str, setting: str, role: Role, words: Mapping[str, str]) -> Arm:
    def run() -> Iterator[Trial]:
        batch = next(nth for nth, batch in enumerate(SETTINGS[name]) if setting in batch)
        for trial in range(effort.pick(2, 1)):
            yield _trial({row: got for row, got in played(name, batch, trial)[setting].items() if row in words})

    checks = [Check("as choreographed", "==", True), *(Check(row, "==", word) for row, word in words.items())]
    setup = Setup("postgresql", name, server="pgbouncer", remedy=setting, mode=POOL_MODE)
    return arm(f"{name}, {setting}", role, setup, checks, run)


def _trial(rows: Mapping[str, Mapping[str, Any]]) -> Trial:
    # A name that is not to come again tells nothing more.
    said = {
        row: [re.sub(r"[0-9a-f]{8}(-[0-9a-f]+){4}", "UUID", text) for text in got["says"]] for row, got in rows.items()
    }
    return Trial(
        facts={
            **{row: got["word"] for row, got in rows.items()},
            "as choreographed": all(got["as choreographed"] for got in rows.values()),
            "statements left": max(got["left"] for got in rows.values()),
            "says": {row: texts for row, texts in said.items() if texts},
        }
    )


@contextlib.contextmanager
def _stage() -> Iterator[Played]:
    """A function that plays one batch of a driver's settings; claims that rest on the same batch share its run."""
    with bouncers() as bouncer_with:

        def played(*what: Any) -> dict[str, Any]:
            name, batch, _ = what
            if what not in _played:
                with bouncer_with(pool_mode=POOL_MODE, default_pool_size=2) as bouncer:
                    where = {"arguments": arguments(name, bouncer.front), "plain": arguments("psycopg2", bouncer.front)}
                    batch = SETTINGS[name][batch]
                    _played[what] = play("lab.scenes.bouncer_statements", patience=900, settings=batch, **where)
            return _played[what]

        yield played
