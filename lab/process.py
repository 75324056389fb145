"""Processes of the lab: private folders, kept process trees, waits with a deadline."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lab import keeper

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
# A reader's own database settings must not leak into a private server or its clients.
_FOREIGN = ("PG", "MYSQL", "MARIADB", "UWSGI", "GUNICORN", "LAB_")

# The last line of a traceback. Servers that fail to import an application add less telling ones to it.
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception|Exit|Missing)(: |$)")

_removers: dict[Path, int] = {}


class LabError(Exception):
    """Something that the lab needs did not happen; the text is one line that says what to do or where to look."""


def wait_until(condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """Ask *condition* until it is true and return its value.

    Raises:
        LabError: it was not true within *seconds*; the message names *what* was awaited.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LabError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.005)
    return value


def environment(extra: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment for a child: this one without foreign database settings, with the project importable."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**mine, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "LC_ALL": "C.UTF-8", **extra}


def unprivileged() -> int | None:
    """The user id under which servers that refuse to run as root are started; None when this is not root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


@contextlib.contextmanager
def folder(owner: int | None = None) -> Iterator[Path]:
    """A private temporary folder, gone afterwards, even when this process is killed.

    Raises:
        LabError: the temporary folder of this machine cannot be written.
    """
    path = remover = None
    try:
        try:
            path = Path(tempfile.mkdtemp(prefix="lab-"))
            if owner is not None:
                os.chown(path, owner, -1)
        except OSError as problem:
            raise LabError(
                f"no private folder: {problem.strerror}; set TMPDIR to a place that can be written"
            ) from None
        # Its input ends with this process, whatever ends that, and with the keepers of what lives in the folder.
        remover = subprocess.Popen(
            ["sh", "-c", 'read -r _; rm -rf "$0"', path],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        _removers[path] = remover.stdin.fileno()
        yield path
    finally:
        _removers.pop(path, None)
        if remover:
            remover.stdin.close()
            remover.wait()
        elif path:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Kept:
    """A process tree under its keeper. ``log`` holds what it printed."""

    name: str
    keeper: subprocess.Popen[bytes]
    log: Path

    @property
    def running(self) -> bool:
        return self.keeper.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the command itself.

        Raises:
            LabError: it has ended.
        """
        children = keeper.descendants(self.keeper.pid)
        if not children:
            self.check()
            raise LabError(f"{self.name} has not started")
        return children[0]

    def check(self) -> None:
        """Raises LabError, with the last line of the log, unless the process runs."""
        if not self.running:
            raise LabError(f"{self.name} ended with exit code {self.keeper.returncode}: {self.last_words()}")

    def last_words(self) -> str:
        lines = [line.strip() for line in self.text().splitlines() if line.strip()]
        raised = [line for line in lines if _EXCEPTION.match(line)]
        words = ("error", "fatal", "no space", "denied")
        # MariaDB's last word is always the same, and tells nothing.
        telling = [line for line in lines if any(w in line.lower() for w in words) and "] Aborting" not in line]
        return (raised or telling or lines or ["it said nothing"])[-1][:300]

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, condition: Callable[[], T], what: str, seconds: float = 30.0) -> T:
        """As :func:`wait_until`, but fails at once, with its last words, when the process ends."""
        try:
            return wait_until(lambda: self.check() or condition(), f"{self.name}: {what}", seconds)
        except LabError as problem:
            self.check()
            raise LabError(f"{problem}; it said last: {self.last_words()}") from None


@contextlib.contextmanager
def kept(
    command: Sequence[str | Path],
    home: Path,
    *,
    name: str,
    env: Mapping[str, str] = {},
    user: int | None = None,
    stop: signal.Signals = signal.SIGKILL,
    log: Path | None = None,
) -> Iterator[Kept]:
    """Run *command* under a keeper until the block ends; nothing of it survives the block or this process.

    Args:
        home: the folder that the keeper removes if this process dies.
        name: what error messages call it.
        user: the user id to run as.
        stop: the signal that asks the command to stop; what is left after it is killed.
        log: where its output goes; ``NAME.log`` in *home* by default.
    """
    log = log or home / f"{name}.log"
    extra = {**env, "LAB_RUN_AS": str(user)} if user is not None else env
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", keeper.__file__, home, str(int(stop)), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            env=environment({"TMPDIR": str(home), **extra}),
            cwd="/",
            start_new_session=True,
            pass_fds=[_removers[home]] if home in _removers else [],
        )
    try:
        yield Kept(name, process, log)
    finally:
        process.stdin.close()
        process.wait()


def play(module: str, *, under: Sequence[str | Path] = (), patience: float = 60, **arguments: object) -> dict:
    """Run ``module.main(**arguments)`` in an interpreter of its own and return the JSON object that it returns.

    Scenarios that fork run this way, so that the caller never forks with an engine open.

    Args:
        under: a command to run the interpreter under, as :func:`lab.trace.strace` gives one.
        patience: the seconds within which it must answer.

    Raises:
        LabError: it failed, or gave no answer in time; the message carries its last line.
    """
    with folder() as home:
        answer = home / "answer.json"
        script = (
            f"import json, sys; from {module} import main; "
            f"result = main(**json.loads(sys.argv[1])); open(sys.argv[2], 'w').write(json.dumps(result))"
        )
        command = [*under, sys.executable, "-c", script, json.dumps(arguments), answer]
        with kept(command, home, name=module.rpartition(".")[2]) as scene:
            wait_until(lambda: not scene.running, f"the end of {module}", patience)
            if not answer.exists():
                # Not its arguments: a URL among them may hold a password.
                raise LabError(f"{module} failed: {scene.last_words()}")
            return json.loads(answer.read_text())
