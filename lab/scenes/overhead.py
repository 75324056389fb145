"""What a checkout costs this process in CPU time, with each recipe and with what SQLAlchemy has of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, text

from lab.turns import Do, take_turns
from recipes.crossing_guard import watch
from recipes.fork_safe_engine import protect
from recipes.rq_postfork import install

QUESTION = text("select 1")
WARM_UP = 20


def _bare(**arguments: Any) -> Engine:
    return create_engine(**arguments)


def _postfork(**arguments: Any) -> Engine:
    engine = create_engine(**arguments)
    # The recipes for forkers do nothing before a fork; this one stands for them all.
    install(engine)
    return engine


WAYS: dict[str, Callable[..., Engine]] = {
    "bare engine": _bare,
    "postfork recipes": _postfork,
    "fork_safe_engine": lambda **arguments: protect(create_engine(**arguments)),
    "crossing_guard": lambda **arguments: watch(create_engine(**arguments)),
    "crossing_guard, strict": lambda **arguments: watch(create_engine(**arguments), strict=True),
    "pool_pre_ping": lambda **arguments: create_engine(**arguments, pool_pre_ping=True),
    "NullPool": lambda **arguments: create_engine(**arguments, poolclass=NullPool),
}


def main(engines: Mapping[str, Mapping[str, Any]], rounds: int, checkouts: int) -> dict[str, Any]:
    """Return for each round the CPU time per checkout of each way, in microseconds.

    Args:
        engines: arguments of ``create_engine`` for each way.
        rounds: how often the ways take turns.
        checkouts: how many in each way and round; each asks ``select 1``.
    """
    doing = {way: _checkouts(make(**engines[way])) for way, make in WAYS.items()}
    for do in doing.values():
        do(WARM_UP)
    return {"rounds": take_turns(doing, rounds, checkouts)}


def _checkouts(engine: Engine) -> Do:
    def do(times: int) -> None:
        for _ in range(times):
            with engine.connect() as connection:
                connection.execute(QUESTION).one()

    return do
