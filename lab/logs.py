"""Logs as people have them, recorded from real programs on real servers: ``python -m lab.logs [NAME...]``.

Each goes whole to ``tests/logs/NAME.log``, freed only of what tells this machine from another. What an expert makes of
a log stands in ``tests/logs/expected.toml``, and is judged by hand: a recording changes there only what was run.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import re
import socket
import sys
import sysconfig
import threading
import tomllib
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from typing import Any

from lab import components, databases
from lab.drivers import ALL_DRIVERS, arguments, driver
from lab.process import ROOT, LabError, folder, kept, wait_until

LOGS = ROOT / "tests" / "logs"
EXPECTED = LOGS / "expected.toml"
# A log that repeats itself keeps its head and its tail.
LONGEST = 56_000

Recording = Callable[[], str]
RECORDINGS: dict[str, tuple[str, Recording]] = {}


def recording(name: str, ran: str, record: Recording) -> None:
    """Add a log: its *name* begins with what it shows (``s01``, ``none``, ``twin``), *ran* says what runs in it."""
    RECORDINGS[name] = (ran, record)


def scrub(text: str, homes: tuple[Path | str, ...] = ()) -> str:
    """*text* without the paths and the names of this machine; *homes* are the private folders of what ran."""
    packages = {sysconfig.get_path("purelib"), str(Path(sysconfig.get_path("purelib")).resolve())}
    library = sysconfig.get_path("stdlib")
    changes = [
        *((f"{place}/", "/usr/lib/python3/dist-packages/") for place in packages),
        (f"{library}/", "/usr/lib/python3.11/"),
        (f"{ROOT}/lab/scenes/log_", "/srv/app/"),
        (f"{ROOT}/lab/apps/", "/srv/app/"),
        ("lab/scenes/log_", ""),
        ("lab.scenes.log_", ""),
        *((str(home), "/srv/run") for home in homes),
        (f"{sys.prefix}/bin/", "/usr/bin/"),
        (f"{Path(sys.prefix).resolve()}/bin/", "/usr/bin/"),
        (sys.prefix, "/usr"),
        (str(ROOT), "/srv/app"),
        (socket.gethostname(), "web1"),
    ]
    for here, there in changes:
        text = text.replace(here, there)
    text = re.sub(r"/(?:var/)?tmp/lab-\w+", "/srv/run", text)
    text = re.sub(r"(/\S+)?/\.pyenv/versions/[\d.]+/bin/", "/usr/bin/", text)
    text = re.sub(r"(/\S+)?/\.pyenv/versions/[\d.]+/lib/", "/usr/lib/", text)
    return re.sub(r"^os: Linux-.*$", "os: Linux-6.1.0-18-amd64", text, flags=re.M)


def shortened(text: str) -> str:
    """*text*, or its head and its tail in whole lines if it is longer than a log here may be."""
    if len(text.encode()) <= LONGEST:
        return text
    lines = text.splitlines(keepends=True)
    head, tail = _fitting(lines, LONGEST * 2 // 3), _fitting(lines[::-1], LONGEST // 3)[::-1]
    return "".join([*head, f"[... {len(lines) - len(head) - len(tail)} lines like these ...]\n", *tail])


def _fitting(lines: list[str], size: int) -> list[str]:
    kept_lines = []
    for line in lines:
        size -= len(line.encode())
        if size < 0:
            break
        kept_lines.append(line)
    return kept_lines


# The server of a kind, within servers_at_hand.
server: Callable[[str], databases.Database] | None = None


@contextlib.contextmanager
def servers_at_hand() -> Iterator[None]:
    """One server of each kind, for all recordings of the block that need no server of their own."""
    with contextlib.ExitStack() as stack:
        global server
        server = functools.cache(lambda kind: stack.enter_context(databases.start(kind, tls=True)))
        try:
            yield
        finally:
            server = None


def emptied(kind: str) -> databases.Database:
    """The server of *kind*, with no table and nobody connected."""
    database = server(kind)
    if kind == "postgresql":
        database.ask("select pg_terminate_backend(pid) from pg_stat_activity where client_port > 0")
        database.ask("drop schema public cascade")
        database.ask("create schema public")
    elif kind == "mariadb":
        for session in database.sessions():
            with contextlib.suppress(Exception):
                database.ask(f"kill {session}")
        database.ask("drop database lab")
        database.ask("create database lab")
    elif kind == "sqlite":
        Path(database.name).unlink(missing_ok=True)
    return database


def settings_for(name: str, tls: bool = False, **more: Any) -> dict[str, Any]:
    """The settings of a program that uses the driver *name*."""
    return {"engine": arguments(name, emptied(driver(name).database), tls=tls), **more}


def run(
    script: str,
    *words: str,
    settings: Mapping[str, Any],
    env: Mapping[str, str] = {},
    patience: float = 90,
    hangs: bool = False,
) -> str:
    """What a program of ours prints: ``lab/scenes/log_SCRIPT.py`` with *words*, to its end.

    One that *hangs* is ended after *patience* seconds, as its user would.
    """
    with folder() as home:
        command = [sys.executable, "-P", ROOT / "lab" / "scenes" / f"log_{script}.py", *words]
        told = {"LAB_APP": json.dumps({**settings, "home": str(home)}), **env}
        with kept(command, home, name=script, env=told) as process:
            try:
                wait_until(lambda: not process.running, f"the end of {script} {words}", patience)
            except LabError:
                if not hangs:
                    raise
            return process.text()


def program(
    script: str,
    *words: str,
    using: str,
    tls: bool = False,
    env: Mapping[str, str] = {},
    hangs: bool = False,
    **more: Any,
) -> Recording:
    """A recording of :func:`run` with the driver *using* and *more* settings."""
    patience = 12 if hangs else 90
    return lambda: run(
        script, *words, settings=settings_for(using, tls, **more), env=env, patience=patience, hangs=hangs
    )


def until(words: str, record: Recording, tries: int = 12) -> Recording:
    """Record again until *words* (a regular expression) are in the log: for what two processes do by chance."""

    def repeated() -> str:
        for _ in range(tries):
            if re.search(words, text := record()):
                return text
        raise LabError(f"no log in {tries} has {words!r}; the last ended: {text[-300:]}")

    return repeated


def get(port: int, *paths: str) -> None:
    """Request all *paths* at once, and read every answer, whatever it is."""

    def one(path: str) -> None:
        with (
            contextlib.suppress(OSError, HTTPException),
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as page,
        ):
            page.read()

    threads = [threading.Thread(target=one, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def write(name: str) -> Path:
    """Record the log *name* and note in ``expected.toml`` what was run.

    Raises:
        components.Missing: a part is not here.
        LabError: it could not be recorded.
    """
    ran, record = RECORDINGS[name]
    text = record()
    path = LOGS / f"{name}.log"
    path.write_text(shortened(scrub(text)))
    rows = {row["file"]: row for row in tomllib.loads(EXPECTED.read_text())["log"]} if EXPECTED.exists() else {}
    row = rows.setdefault(path.name, {"file": path.name, "first": _told_by(name), "also": []})
    versions = ", ".join(_versions(ran))
    row["from"] = f"{ran} ({versions})" if versions else ran
    order = sorted(rows, key=lambda file: (not re.match(r"s\d", file), file))
    EXPECTED.write_text(_HEADER + "".join(_row(rows[file]) for file in order))
    return path


_HEADER = """# What an expert names first for each log, from the log alone, and what may follow in any order ("also").
# first = "" means that the log shows none of the symptoms. "from" is what was run, noted by lab.logs.
"""


# What is named in a row and has a version: a distribution, or a component of the system.
_PARTS = {
    **{row.name: row.distribution for row in ALL_DRIVERS.values() if row.distribution},
    **{name: name for name in ("SQLAlchemy", "Flask", "Flask-SQLAlchemy", "FastAPI", "uvicorn", "gunicorn", "uWSGI")},
    **{name: name for name in ("Celery", "gevent", "RQ")},
}
_COMPONENTS = {"PostgreSQL": "postgresql", "MariaDB": "mariadb", "nginx": "nginx", "PgBouncer": "pgbouncer"}


# What a row says whose program has another interpreter and nothing of this one's.
ALONE = "the standard library alone"


def _versions(ran: str) -> Iterator[str]:
    if ALONE in ran:
        return
    named = {word.strip("(),;:") for word in [*re.split(r"[ ,]+", ran), "SQLAlchemy"]}
    for part, distribution in _PARTS.items():
        if part in named or ("mysql-connector" == part and part in ran):
            yield f"{part} {metadata.version(distribution)}"
    for part, component in _COMPONENTS.items():
        if part in named:
            yield f"{part} {re.search(r'[0-9][0-9.]+[0-9]', components.version(component))[0]}"
    yield f"Python {platform.python_version()}"


def _told_by(name: str) -> str:
    found = re.match(r"s\d\d", name)
    return found[0].upper() if found else ""


def _row(row: Mapping[str, Any]) -> str:
    order = [
        *("file", "first", "also", "from"),
        *(name for name in row if name not in ("file", "first", "also", "from")),
    ]
    return "\n[[log]]\n" + "".join(f"{name} = {json.dumps(row[name], ensure_ascii=False)}\n" for name in order)


def main(names: list[str]) -> int:
    """Record the logs of *names*, a beginning of a name for several, or all."""
    import lab.scenes.log_table_servers  # noqa: F401 - the rows of both tables add themselves

    wanted = [name for name in RECORDINGS if not names or any(name.startswith(one) for one in names)]
    if not wanted:
        print(f"no log of that name; there are: {' '.join(RECORDINGS)}")
        return 2
    failed = 0
    with servers_at_hand():
        for name in wanted:
            try:
                print(write(name).relative_to(ROOT), flush=True)
            except (LabError, components.Missing) as problem:
                failed += 1
                print(f"{name}: {problem}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    # Not this module twice: the rows import it by its name.
    from lab import logs

    sys.exit(logs.main(sys.argv[1:]))
