"""A private uvicorn."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lab import evidence
from lab.process import folder, kept
from lab.servers import Server


class Uvicorn(Server):
    def workers(self) -> list[int]:
        # Without --workers, which it is not given here, it answers in the one process that it is.
        return [self.master] if "Application startup complete" in self.process.text() else []


@contextlib.contextmanager
def uvicorn(app: str, *, settings: Mapping[str, Any] = {}, options: Mapping[str, Any] = {}) -> Iterator[Uvicorn]:
    """A real uvicorn with one process, ready to answer.

    Args:
        app: the module that holds ``application``.
        settings: what the application finds, as JSON, in ``LAB_APP``; ``home`` and ``workers`` are added.
        options: further options; ``True`` for one without a value.

    Raises:
        LabError: it does not start; the message carries what it said last.
    """
    with folder() as home:
        # Its own version first: nothing else that it says would tell.
        with kept([sys.executable, "-m", "uvicorn", "--version"], home, name="version") as asked:
            version = asked.log
            asked.keeper.wait(30)
            evidence.saw("uvicorn", re.search(r"uvicorn (\S+)", version.read_text())[1])
        command = [sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", "0", "--no-use-colors"]
        for name, value in options.items():
            command += [f"--{name}"] if value is True else [f"--{name}", str(value)]
        env = {"LAB_APP": json.dumps({**settings, "home": str(home), "workers": 1})}
        with kept([*command, f"{app}:application"], home, name="uvicorn", env=env) as process:
            running = r"Uvicorn running on http://127\.0\.0\.1:(\d+)"
            port = process.wait_for(lambda: (m := re.search(running, process.text())) and int(m[1]), "a port", 90)
            server = Uvicorn(process, port, home)
            server.wait_for_workers(1)
            yield server
