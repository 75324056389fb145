"""What experiments on connection pools share: who waits in the queue, and servers that take few connections."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Engine, make_url

from lab.databases import Database, mariadb, postgresql
from lab.drivers import arguments, driver
from lab.process import LabError

APP = "app"


def waiting(engine: Engine) -> int:
    """How many threads wait in the queue of the engine's pool. SQLAlchemy itself has no question for it."""
    return len(engine.pool._pool.not_empty._waiters)  # type: ignore[attr-defined]


@contextlib.contextmanager
def limited(kind: str, connections: int) -> Iterator[Database]:
    """A server of *kind* with ``max_connections`` set, and with an ordinary account :data:`APP`.

    MariaDB takes no fewer than 10. What PostgreSQL keeps for superusers, three by default, is among *connections*.

    Raises:
        LabError: *kind* is neither "postgresql" nor "mariadb".
    """
    if kind == "postgresql":
        with postgresql(settings={"max_connections": str(connections)}) as database:
            database.ask(f"create role {APP} login")
            yield database
    elif kind == "mariadb":
        with mariadb() as database:
            database.ask(f"set global max_connections = {connections}")
            database.ask(f"create user {APP}@'127.0.0.1'")
            database.ask(f"grant all on lab.* to {APP}@'127.0.0.1'")
            yield database
    else:
        raise LabError(f"no limit is known for {kind!r}")


def as_app(name: str, database: Database) -> dict[str, Any]:
    """As :func:`lab.drivers.arguments`, for the ordinary account."""
    how = arguments(name, database)
    url = make_url(how["url"]).set(username=APP)
    return {**how, "url": url.render_as_string(hide_password=False)}


def setting(name: str, pool: str, **more: Any) -> Mapping[str, Any]:
    """The fields of a ``Setup`` for a driver and a pool."""
    return {"database": driver(name).database, "driver": name, "pool": pool, **more}
