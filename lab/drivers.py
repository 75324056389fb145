"""The drivers: one row each. A new driver is one row.

Every URL names its driver, and TLS is always pinned on or off: psycopg2, psycopg, pg8000 and mysql-connector turn it on
by themselves when the server offers it, and TLS changes the outcome of nearly every experiment.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from lab import components, evidence
from lab.databases import USER, Database
from lab.process import LabError


@dataclass(frozen=True)
class Driver:
    """One driver.

    Attributes:
        name: what the site calls it.
        dialect: the drivername of its URL.
        database: the kind of server that it talks to.
        module: what to import; ``distribution`` is what to install.
        plain: ``connect_args`` that pin TLS off.
        tls: ``connect_args`` that pin TLS on, without a check of the certificate.
        needs: the component without which the module cannot be had.
        pings: creating a cursor sends a message of its own.
        loop: it needs an event loop: ``create_async_engine``.
    """

    name: str
    dialect: str
    database: str
    module: str
    distribution: str
    plain: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, Any] = field(default_factory=dict)
    needs: str = ""
    pings: bool = False
    loop: bool = False


_NO_CHECK = {"check_hostname": False, "verify_mode": False}

DRIVERS = {
    driver.name: driver
    for driver in (
        Driver(
            "psycopg2", "postgresql+psycopg2", "postgresql", "psycopg2", "psycopg2-binary",
            {"sslmode": "disable"}, {"sslmode": "require"},
        ),
        Driver(
            "psycopg", "postgresql+psycopg", "postgresql", "psycopg", "psycopg",
            {"sslmode": "disable"}, {"sslmode": "require"},
        ),
        Driver(
            "pg8000", "postgresql+pg8000", "postgresql", "pg8000", "pg8000",
            {"ssl_context": False}, {"ssl_context": True},
        ),
        Driver(
            "PyMySQL", "mysql+pymysql", "mariadb", "pymysql", "PyMySQL",
            {"ssl_disabled": True}, {"ssl": _NO_CHECK},
        ),
        Driver(
            "mysqlclient", "mysql+mysqldb", "mariadb", "MySQLdb", "mysqlclient",
            {"ssl_mode": "DISABLED"}, {"ssl_mode": "REQUIRED"}, needs="compiler",
        ),
        Driver(
            "mysql-connector", "mysql+mysqlconnector", "mariadb", "mysql.connector", "mysql-connector-python",
            {"ssl_disabled": True}, {"ssl_disabled": False}, pings=True,
        ),
        Driver("python-oracledb", "oracle+oracledb", "oracle", "oracledb", "oracledb", needs="oracle"),
        Driver("cx_Oracle", "oracle+cx_oracle", "oracle", "cx_Oracle", "cx_Oracle", needs="oracle"),
    )
}  # fmt: skip

# Drivers that no WSGI application of the lab is run with.
MORE_DRIVERS = {
    driver.name: driver
    for driver in (
        Driver(
            "MariaDB Connector", "mariadb+mariadbconnector", "mariadb", "mariadb", "mariadb",
            {"ssl": False}, {"ssl": True, "ssl_verify_cert": False}, needs="compiler",
        ),
        Driver(
            "psycopg async", "postgresql+psycopg_async", "postgresql", "psycopg", "psycopg",
            {"sslmode": "disable"}, {"sslmode": "require"}, loop=True,
        ),
        Driver(
            "asyncpg", "postgresql+asyncpg", "postgresql", "asyncpg", "asyncpg",
            {"ssl": "disable"}, {"ssl": "require"}, loop=True,
        ),
        Driver(
            "asyncmy", "mysql+asyncmy", "mariadb", "asyncmy", "asyncmy",
            {}, {"ssl": _NO_CHECK}, loop=True,
        ),
        Driver("sqlite", "sqlite+pysqlite", "sqlite", "sqlite3", ""),
    )
}  # fmt: skip
ALL_DRIVERS = {**DRIVERS, **MORE_DRIVERS}

# What a request asks: give my own text back, and tell which backend answered.
QUESTION = {
    "postgresql": "select cast(:nonce as text) as nonce, pg_backend_pid() as backend",
    "mariadb": "select :nonce as nonce, connection_id() as backend",
    "sqlite": "select :nonce as nonce, 0 as backend",
    "oracle": "select :nonce as nonce, sys_context('userenv', 'sid') as backend from dual",
}


def driver(name: str) -> Driver:
    """The row of *name*.

    Raises:
        LabError: there is no such driver.
    """
    if name not in ALL_DRIVERS:
        raise LabError(f"no driver {name!r}; known: {', '.join(ALL_DRIVERS)}")
    return ALL_DRIVERS[name]


def load(name: str) -> ModuleType:
    """Import the driver's module and note its version.

    Raises:
        components.Missing: it is not installed; one line says how to get it.
    """
    row = driver(name)
    if row.database == "oracle":
        components.need("oracle")
    try:
        compiled = row.needs == "compiler"
        with warnings.catch_warnings():
            # What Python has to say of a driver's source is its authors' business, and is said only once.
            warnings.simplefilter("ignore")
            module = (
                components.python_module(row.module, row.needs) if compiled else importlib.import_module(row.module)
            )
    except ImportError as problem:
        how = f"pip install {row.distribution}" if row.database == "oracle" else "make setup"
        raise components.Missing(f"{name} is missing ({problem.msg}); to install it: {how}") from None
    evidence.saw(name, importlib.metadata.version(row.distribution) if row.distribution else module.sqlite_version)
    return module


def arguments(name: str, database: Database, *, tls: bool = False) -> dict[str, Any]:
    """What ``create_engine`` needs, as plain data that can travel to another process: ``url`` and ``connect_args``.

    Raises:
        components.Missing: the driver is not installed, or *tls* is asked of a PostgreSQL that was built without.
    """
    row = driver(name)
    load(name)
    if tls and not database.tls and row.database == "postgresql":
        components.need("postgresql-tls")
    if row.database == "oracle":
        return {"url": make_url(os.environ["ORACLE_URL"]).set(drivername=row.dialect).render_as_string(False)}
    if row.database == "sqlite":
        return {"url": URL.create(row.dialect, database=database.name).render_as_string()}
    url = URL.create(row.dialect, USER, host="127.0.0.1", port=database.port, database=database.name)
    return {"url": url.render_as_string(False), "connect_args": dict(row.tls if tls else row.plain)}


def spoken(problem: Exception) -> str:
    """The message as a traceback ends with it, without the statement that SQLAlchemy adds."""
    kind = type(problem)
    words = re.split(r"\n\[SQL: |\n\(Background on this", str(problem), maxsplit=1)[0]
    return f"{kind.__module__}.{kind.__qualname__}: {words}"


def reach(url: str) -> Engine:
    """An engine for a database that the lab did not start, proved to answer.

    Raises:
        LabError: it does not; one line, without the password.
    """
    where = "the database"
    try:
        engine = create_engine(url)
        where = engine.url.render_as_string()
        with engine.connect() as connection:
            connection.execute(text("select 1 from dual" if engine.dialect.name == "oracle" else "select 1"))
    except (SQLAlchemyError, ImportError, OSError) as problem:
        why = " ".join(str(getattr(problem, "orig", None) or problem).split())
        raise LabError(f"cannot reach {where}: {why[:300]}") from None
    return engine
