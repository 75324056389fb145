"""WSGI servers by name, each with one process, one thread where it has threads, and an application of the lab."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from typing import Any

from lab import evidence
from lab.apache import apache
from lab.apps.serve import SERVERS as SCRIPTED
from lab.databases import free_port
from lab.process import LabError, folder, kept
from lab.servers import BIN, Server, gunicorn, uwsgi

Settings = Mapping[str, Any]


@contextlib.contextmanager
def _scripted(name: str, app: str, settings: Settings) -> Iterator[Server]:
    with folder() as home:
        env = {"LAB_APP": json.dumps({**settings, "home": str(home)})}
        with kept([sys.executable, "-m", "lab.apps.serve", name, app], home, name=name, env=env) as process:
            said = process.wait_for(lambda: re.search(rf"{name} (\S+) serves port (\d+)", process.text()), "a port", 60)
            evidence.saw(name, said[1])
            yield Server(process, int(said[2]), home)


@contextlib.contextmanager
def _granian(app: str, settings: Settings, tries: int = 5) -> Iterator[Server]:
    with folder() as home, contextlib.ExitStack() as stack:
        env = {"LAB_APP": json.dumps({**settings, "home": str(home)})}
        for attempt in range(tries):
            port = free_port()
            command = [BIN / "granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
            log = home / f"{attempt}.log"
            command += ["--workers", "1", "--blocking-threads", "1", f"{app}:application"]
            process = stack.enter_context(kept(command, home, name="granian", env=env, log=log))
            try:
                process.wait_for(lambda: _answers(port), "a port", 60)  # noqa: B023 - called within the iteration
                break
            except LabError:
                if "in use" not in process.text() or attempt == tries - 1:
                    raise
        evidence.saw("granian", metadata.version("granian"))
        yield Server(process, port, home)


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _gunicorn(kind: str) -> Callable[[str, Settings], contextlib.AbstractContextManager[Server]]:
    options = {"worker-class": kind, **({"threads": 1} if kind == "gthread" else {})}
    return lambda app, settings: gunicorn(app, workers=1, settings=settings, options=options)


def _apache(mode: str) -> Callable[[str, Settings], contextlib.AbstractContextManager[Server]]:
    return lambda app, settings: apache(app, mode=mode, processes=1, settings=settings)


# By what a Setup calls the server, and its mode.
SERVERS: dict[tuple[str, str], Callable[[str, Settings], contextlib.AbstractContextManager[Server]]] = {
    ("apache + mod_wsgi", "daemon"): _apache("daemon"),
    ("apache + mod_wsgi", "embedded"): _apache("embedded"),
    ("gunicorn", "sync"): _gunicorn("sync"),
    ("gunicorn", "gthread"): _gunicorn("gthread"),
    ("uwsgi", ""): lambda app, settings: uwsgi(app, workers=1, settings=settings),
    ("granian", ""): _granian,
    **{(name, ""): lambda app, settings, name=name: _scripted(name, app, settings) for name in SCRIPTED},
}


def serve(server: str, mode: str, app: str, settings: Settings) -> contextlib.AbstractContextManager[Server]:
    """A running server with the application of the module *app*, which finds *settings* and ``home`` in ``LAB_APP``.

    Raises:
        components.Missing: there is no such server here.
        LabError: it does not start.
    """
    return SERVERS[server, mode](app, settings)
