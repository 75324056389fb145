"""Application servers under test, each private, on a port of the kernel's choice, gone with its block."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import components, evidence, procfs
from lab.process import Kept, LabError, folder, kept
from lab.trace import strace

BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Server:
    """A running application server: ``port`` answers HTTP, ``home`` is its private folder."""

    process: Kept
    port: int
    home: Path

    @property
    def master(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """The process ids of the workers that are ready for requests."""
        raise NotImplementedError

    def report(self, event: str = "") -> list[dict[str, Any]]:
        """What the application noted, all of it or one kind of event."""
        path = self.home / "report"
        lines = path.read_text().splitlines() if path.exists() else []
        return [row for row in map(json.loads, lines) if row["event"] == (event or row["event"])]

    def wait_for_workers(self, count: int, other_than: list[int] = ()) -> list[int]:
        """Wait until *count* workers are ready, none of them one of *other_than*, and return them."""

        def ready() -> list[int] | None:
            workers = self.workers()
            return workers if len(workers) == count and not set(workers) & set(other_than) else None

        # On a busy machine four workers that all import the application have been seen to take half a minute.
        return self.process.wait_for(ready, f"{count} workers", 90)

    def respawn(self, how: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send every worker the signal *how* and return those that the master forks in their place.

        SIGKILL ends a worker at once; SIGHUP lets one of uWSGI's finalise its interpreter first.
        """
        old = self.workers()
        for pid in old:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        return self.wait_for_workers(len(old), other_than=old)


class Uwsgi(Server):
    def workers(self) -> list[int]:
        return [w["pid"] for w in self.status().get("workers", ()) if w["pid"] and w["accepting"] and w["apps"]]

    def status(self) -> dict[str, Any]:
        """What uWSGI's own statistics server says; empty while it does not listen."""
        with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.home / "stats"))
            return json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
        return {}


class Gunicorn(Server):
    def workers(self) -> list[int]:
        booted = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.process.text())]
        return [pid for pid in booted if procfs.state(pid) not in ("", "Z") and self._listens(pid)]

    def _listens(self, pid: int) -> bool:
        # A worker that waits for requests sleeps in select; one that still imports does not.
        return bool(procfs.waits_in(pid))


@contextlib.contextmanager
def uwsgi(
    app: str,
    *,
    workers: int = 4,
    settings: Mapping[str, Any] = {},
    options: Mapping[str, Any] = {},
    trace: Path | None = None,
) -> Iterator[Uwsgi]:
    """A real uWSGI, ready to answer.

    Args:
        app: the module that holds ``application``.
        settings: what the application finds, as JSON, in ``LAB_APP``; ``home`` and ``workers`` are added.
        options: further options; ``True`` for one without a value, a list for one that is given several times.
        trace: write an strace of master and workers there.

    Raises:
        LabError: it does not start; the message carries what it said last.
        components.Missing: *trace* is asked for and there is no strace.
    """
    with folder() as home:
        command: list[str | Path] = [uwsgi_binary(), "--master", "--need-app", "--disable-logging"]
        command += ["--home", sys.prefix, "--module", app, "--processes", str(workers), "--stats", home / "stats"]
        if not {"http", "http-socket", "socket", "uwsgi-socket"} & set(options):
            command += ["--http-socket", "127.0.0.1:0"]
        for name, value in options.items():
            for one in value if isinstance(value, list) else [value]:
                command += [f"--{name}"] if one is True else [f"--{name}", str(one)]
        if trace:
            command = [*strace(trace), *command]
        env = {"LAB_APP": json.dumps({**settings, "home": str(home), "workers": workers})}
        with kept(command, home, name="uWSGI", env=env) as process:
            port = process.wait_for(lambda: _bound(process.text()), "a port")
            server = Uwsgi(process, port, home)
            server.wait_for_workers(workers)
            yield server


@contextlib.contextmanager
def gunicorn(
    app: str, *, workers: int = 4, settings: Mapping[str, Any] = {}, options: Mapping[str, Any] = {}
) -> Iterator[Gunicorn]:
    """A real gunicorn with synchronous workers, ready to answer; arguments and errors as for :func:`uwsgi`."""
    with folder() as home:
        command: list[str | Path] = [sys.executable, "-m", "gunicorn", "--no-control-socket"]
        command += ["--bind", "127.0.0.1:0", "--workers", str(workers)]
        for name, value in options.items():
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        env = {"LAB_APP": json.dumps({**settings, "home": str(home), "workers": workers})}
        with kept([*command, f"{app}:application"], home, name="gunicorn", env=env) as process:
            listening = r"Listening at: http://127\.0\.0\.1:(\d+)"
            port = process.wait_for(lambda: (m := re.search(listening, process.text())) and int(m[1]), "a port")
            evidence.saw("gunicorn", re.search(r"Starting gunicorn (\S+)", process.text())[1])
            server = Gunicorn(process, port, home)
            server.wait_for_workers(workers)
            yield server


def uwsgi_binary() -> Path:
    """uWSGI as built from source, else the wheel, and its version noted.

    Raises:
        LabError: there is neither.
    """
    binary = BIN / "uwsgi"
    if not binary.exists():
        raise LabError("uWSGI is missing; to install it: make setup")
    version = subprocess.run([binary, "--version"], capture_output=True, text=True).stdout.strip()
    evidence.saw("uwsgi", version if _is_built_from_source(binary) else f"{version} (pyuwsgi)")
    return binary


def need_uwsgi_from_source() -> None:
    """The wheel's uWSGI runs inside a Python and cannot execute itself anew.

    Raises:
        components.Missing: there is no other.
    """
    if not _is_built_from_source(uwsgi_binary()):
        components.need("compiler")
        raise components.Missing("uWSGI from source is missing; reloads need it and are left out; to build: make setup")


def _is_built_from_source(binary: Path) -> bool:
    # The wheel installs a Python script of the same name.
    with binary.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def _bound(log: str) -> int | None:
    found = re.search(r"bound to TCP address 127\.0\.0\.1:(\d+)", log)
    return int(found[1]) if found else None
