"""A Session reads a row and is closed, or is not; what transaction is open afterwards, by the server's own view."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from lab.pages import Page, Truth

kept: list[Session] = []


def _session(engine: Engine) -> Session:
    session = Session(engine)
    session.scalars(select(Page)).all()
    kept.append(session)
    return session


def _driver(engine: Engine) -> None:
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute("select * from page")
    cursor.fetchall()
    connection.close()


def _connection(engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("select * from page")).all()


WAYS: dict[str, Callable[[Engine], object]] = {
    "no close()": _session,
    "close()": lambda engine: _session(engine).close(),
    "commit()": lambda engine: _session(engine).commit(),
    "Connection.close()": _connection,
    "the driver's own transaction": _driver,
}


def main(arguments: Mapping[str, Any], database: str) -> dict[str, Any]:
    """Return, by way and by the pool's reset_on_return, how many transactions are open and connections checked out.

    Args:
        arguments: those of ``create_engine``.
        database: the kind of server.
    """
    gc.disable()
    truth = Truth(arguments, database)
    truth.rewind()
    return {f"{way}{how}": _play(truth, way, options) for way in WAYS for how, options in RESETS.items()}


RESETS: dict[str, dict[str, Any]] = {"": {}, ", pool_reset_on_return=None": {"pool_reset_on_return": None}}


def _play(truth: Truth, way: str, options: Mapping[str, Any]) -> dict[str, int]:
    engine = truth.engine(**options)
    WAYS[way](engine)
    seen = {"transactions open": truth.open_transactions(), "connections checked out": engine.pool.checkedout()}
    while kept:
        kept.pop().close()
    engine.dispose()
    return seen
