"""A module is imported in a master, which then forks: what of the import left a connection for the children?

Each act has an engine of its own. The children ask one after the other and leave through ``os._exit``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Column, Engine, Integer, MetaData, NullPool, Table, create_engine, event, inspect, text
from sqlalchemy.orm import Session, configure_mappers, registry, scoped_session, sessionmaker

from lab.drivers import QUESTION, spoken

CHILDREN = 2
VERSION = "select version from advice_version"


def main(engine: dict[str, Any], database: str, moments: Sequence[str]) -> dict[str, Any]:
    """Play one act for each of *moments*, the names of what an import does; return a row for each.

    Args:
        engine: arguments of ``create_engine``.
    """
    with create_engine(**engine, poolclass=NullPool).begin() as connection:
        connection.execute(text("create table if not exists advice_version (version varchar(40))"))
    return {"rows": [_act(engine, database, moment) for moment in moments]}


def _act(arguments: dict[str, Any], database: str, moment: str) -> dict[str, Any]:
    engine = create_engine(**arguments)
    used = []

    @event.listens_for(engine, "connect")
    def remember(dbapi_connection, record):
        record.info["opened_by"] = os.getpid()

    @event.listens_for(engine, "checkout")
    def look(dbapi_connection, record, proxy):
        used.append(record.info["opened_by"])

    IMPORTS[moment](engine, arguments)
    pooled = engine.pool.checkedin()
    children = [_child(engine, database, used) for _ in range(CHILDREN)]
    engine.dispose()
    return {"pooled": pooled, "children": children}


def _child(engine: Engine, database: str, used: list[int]) -> dict[str, Any]:
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            outcome = _ask(engine, database)
            told = {"outcome": outcome, "inherited": used[-1] == os.getppid()}
            os.write(says, json.dumps(told).encode())
        finally:
            os._exit(0)
    os.close(says)
    os.waitpid(child, 0)
    with os.fdopen(hears) as told:
        return json.loads(told.read())


def _ask(engine: Engine, database: str) -> dict[str, Any]:
    nonce = str(os.getpid())
    try:
        with engine.connect() as connection:
            row = connection.execute(text(QUESTION[database]), {"nonce": nonce}).one()
    except Exception as problem:
        return {"kind": "error", "message": spoken(problem)}
    return {"kind": "right" if row.nonce == nonce else "wrong"}


def _tables() -> MetaData:
    metadata = MetaData()
    Table("advice_preload", metadata, Column("id", Integer, primary_key=True))
    return metadata


def _models(engine: Engine, arguments: dict[str, Any]) -> None:
    class Model:
        pass

    mapped = registry(metadata=_tables())
    mapped.map_imperatively(Model, mapped.metadata.tables["advice_preload"])
    configure_mappers()
    scoped_session(sessionmaker(engine))


def _select(engine: Engine, statement: str = "select 1") -> None:
    with engine.connect() as connection:
        connection.execute(text(statement))


def _health_check(engine: Engine, arguments: dict[str, Any]) -> None:
    def create_app() -> object:
        with Session(engine) as session:
            session.execute(text("select 1"))
        return object()

    create_app()


def _dispose(engine: Engine, arguments: dict[str, Any]) -> None:
    _select(engine)
    engine.dispose()


IMPORTS: dict[str, Callable[[Engine, dict[str, Any]], object]] = {
    "models, configure_mappers, a scoped_session": _models,
    "a Session opened and closed without a query": lambda engine, _: Session(engine).close(),
    "connect() without a statement": lambda engine, _: engine.connect().close(),
    "create_all": lambda engine, _: _tables().create_all(engine),
    "reflection": lambda engine, _: MetaData().reflect(engine),
    "has_table": lambda engine, _: inspect(engine).has_table("advice_version"),
    "one SELECT for the configuration": lambda engine, _: _select(engine),
    "the migration's version": lambda engine, _: _select(engine, VERSION),
    "a health check in create_app": _health_check,
    "one SELECT, then dispose()": _dispose,
    "one SELECT on an engine of its own with NullPool": lambda _, arguments: _select(
        create_engine(**arguments, poolclass=NullPool)
    ),
}
