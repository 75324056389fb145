"""Message brokers under test, private to a folder: Celery's, which is a folder, and a Redis for RQ."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import components
from lab.process import kept


def celery_settings(home: Path, out: str = "messages") -> dict[str, Any]:
    """Settings of Celery for a broker that needs no server: messages are files below *home*, new ones in *out*.

    A sender writes elsewhere than a worker reads, and calls :func:`deliver`.
    https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.filesystem.html
    """
    messages, written, control = home / "messages", home / out, home / "control"
    for path in (messages, written, control):
        path.mkdir(exist_ok=True)
    folders = {"data_folder_in": messages, "data_folder_out": written, "control_folder": control}
    return {
        "broker_url": "filesystem://",
        "broker_transport_options": {name: str(path) for name, path in folders.items()} | {"polling_interval": 0.05},
        "task_ignore_result": True,
        "worker_prefetch_multiplier": 1,
    }


def deliver(home: Path, out: str) -> None:
    """Hand over whole messages: kombu 5.7 reads a file that it finds empty, and the worker dies of it."""
    for path in sorted((home / out).iterdir()):
        path.rename(home / "messages" / path.name)


@contextlib.contextmanager
def redis(home: Path) -> Iterator[Path]:
    """A private Redis that listens on a Unix socket in *home* only and keeps nothing; yields the socket's path.

    Raises:
        components.Missing: there is neither Redis nor Valkey.
        LabError: it does not start.
    """
    socket = home / "redis"
    options = {"port": "0", "unixsocket": socket, "save": "", "appendonly": "no", "dir": home}
    command: list[str | Path] = [Path(components.need("redis"))]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    with kept(command, home, name="redis", stop=signal.SIGTERM) as server:
        server.wait_for(lambda: "eady to accept connections" in server.text() and socket.exists(), "start")
        yield socket
