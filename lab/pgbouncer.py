"""A private PgBouncer in front of a throwaway PostgreSQL."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab import components, evidence
from lab.databases import USER, Database, free_port, start
from lab.process import Kept, LabError, folder, kept, unprivileged

CONSOLE = "pgbouncer"


@dataclass(frozen=True)
class Bouncer:
    """A running PgBouncer. Whatever name of a database a client asks for is a pool of its own, over the same database.

    ``front`` is the database as its clients reach it, through PgBouncer; its ``ask`` goes past it.
    """

    version: str
    server: Kept
    front: Database

    def ask(self, command: str) -> list[dict[str, Any]]:
        """What :func:`console` answers."""
        return console(self.front.port, command)


def console(port: int, command: str) -> list[dict[str, Any]]:
    """Put a command such as ``SHOW POOLS`` to the admin console on *port*; returns rows by name of column."""
    import psycopg
    from psycopg.rows import dict_row

    where = {"host": "127.0.0.1", "port": port, "user": USER, "dbname": CONSOLE, "sslmode": "disable"}
    with psycopg.connect(**where, autocommit=True, row_factory=dict_row) as connection:
        cursor = connection.execute(command)
        return cursor.fetchall() if cursor.description else []


def pool(port: int, name: str) -> dict[str, Any]:
    """What ``SHOW POOLS`` says of the pool for the database *name*; nothing if there is no pool yet."""
    return next((row for row in console(port, "SHOW POOLS") if row["database"] == name), {})


@contextlib.contextmanager
def pgbouncer(database: Database, **settings: object) -> Iterator[Bouncer]:
    """A PgBouncer in front of *database*, on a port of the kernel's choice.

    Args:
        settings: lines for its section ``[pgbouncer]``, such as ``pool_mode="transaction"``.

    Raises:
        components.Missing: PgBouncer is not installed.
        LabError: it does not start.
    """
    program = Path(components.need("pgbouncer"))
    # It refuses to be root.
    user = unprivileged()
    with folder(user) as home, contextlib.ExitStack() as stack:
        server, port = _on_a_free_port(stack, program, home, user, database, settings)
        bouncer = Bouncer("", server, replace(database, port=port))
        version = re.search(r"\d[\d.]*", bouncer.ask("SHOW VERSION")[0]["version"])[0]
        evidence.saw("pgbouncer", version)
        yield replace(bouncer, version=version)


@contextlib.contextmanager
def bouncers() -> Iterator[Callable[..., contextlib.AbstractContextManager[Bouncer]]]:
    """A function that starts one PgBouncer after the other, with its settings, before one PostgreSQL.

    It may raise what :func:`pgbouncer` and :func:`lab.databases.start` do; the database is started when it is called.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database() -> Database:
            return stack.enter_context(start("postgresql"))

        yield lambda **settings: pgbouncer(database(), **settings)


def _on_a_free_port(
    stack: contextlib.ExitStack,
    program: Path,
    home: Path,
    user: int | None,
    database: Database,
    settings: dict[str, object],
    tries: int = 5,
) -> tuple[Kept, int]:
    (home / "users").write_text(f'"{USER}" ""\n')
    for attempt in range(tries):
        port = free_port()
        file = home / f"{attempt}.ini"
        file.write_text(_configuration(database, port, home, settings))
        command, log = [program, file], home / f"pgbouncer-{attempt}.log"
        server = stack.enter_context(kept(command, home, name="PgBouncer", user=user, stop=signal.SIGINT, log=log))
        try:
            server.wait_for(lambda: "process up" in server.text(), "start")  # noqa: B023 - called within the iteration
            return server, port
        except LabError:
            if "Address already in use" not in server.text():
                raise
    raise LabError(f"PgBouncer does not start: the port was taken, {tries} times in a row")


def _configuration(database: Database, port: int, home: Path, settings: dict[str, object]) -> str:
    lines = {
        "listen_addr": "127.0.0.1",
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "trust",
        "auth_file": home / "users",
        "admin_users": USER,
        # What drivers send at the start, and PgBouncer would refuse.
        "ignore_startup_parameters": "extra_float_digits",
        **settings,
    }
    target = f"* = host=127.0.0.1 port={database.port} dbname={database.name}"
    said = [f"{name} = {value}" for name, value in lines.items()]
    return "\n".join(["[databases]", target, "[pgbouncer]", *said, ""])
