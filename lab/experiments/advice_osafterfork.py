"""uWSGI's ``py-call-osafterfork`` under several versions of Python: do the workers survive it (C16)?"""

from __future__ import annotations

import glob
import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from lab.components import Missing
from lab.evidence import Effort, arm, experiment, saw
from lab.process import folder, kept
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

APP = "lab.apps.advice_at_fork"
WORKERS, REQUESTS = 2, 100
# The second kind is uWSGI as built from source, which is newer than the newest wheel.
RELEASES = (("3.12", "uwsgi==2.0.31"), ("3.13", "pyuwsgi==2.0.30.post1"), ("3.13", "uwsgi==2.0.31"))
OPTION, OTHER = "py-call-osafterfork", "py-call-uwsgi-fork-hooks"
# Several processes write to one log, and may write into each other's lines.
FATAL = r"Fatal Python error: \w+: (?!spawned|DAMN).+"

SERVED = [Check("right", "==", REQUESTS), Check("died", "==", 0)]
RUN, NOT_RUN = Check("handler", "==", "ran"), Check("handler", "==", "did not run")
DEAD = [Check("right", "==", 0), Check("died", ">=", 1)]


@experiment("osafterfork-aborts-on-3-13", uses=["lab/apps/advice_at_fork.py"], gated=False)
def osafterfork(effort: Effort) -> Iterator[Arm]:
    for python, package in RELEASES:
        with folder() as home:
            binary = _installed(python, package, home)
            newer = python != "3.12"
            wheel = package.startswith("pyuwsgi")
            options: tuple[tuple[str, Role, list[Check]], ...] = (
                ("none", "control", [*SERVED, NOT_RUN]),
                (OPTION, "hazard", DEAD) if newer else (OPTION, "control", [*SERVED, RUN]),
                (OTHER, "remedy", [*SERVED, RUN]),
            )
            for option, role, checks in options:
                name = f"uwsgi {package.partition('==')[2].removesuffix('.post1')}{' (pyuwsgi)' if wheel else ''}"
                it = Setup(
                    server=f"{name} + CPython {python}",
                    remedy="" if option == "none" else option,
                    workers=WORKERS,
                    requests=REQUESTS,
                )
                yield arm(
                    f"CPython {python}, {name}, {option}",
                    role,
                    it,
                    checks,
                    lambda it=it, binary=binary: _trials(it, binary, effort.pick(3, 1)),
                )


def _installed(python: str, package: str, home: Path) -> Path | str:
    """The server in an environment of its own in *home*; a line that says what is missing where that fails."""
    found = sorted(glob.glob(str(Path.home() / f".pyenv/versions/{python}.*/bin/python3")))
    if not found:
        return f"CPython {python} is missing; the claim about uWSGI under it needs it and is left out"
    try:
        _run(found[-1], "-m", "venv", home / "environment")
        _run(home / "environment/bin/pip", "install", "--quiet", package)
    except subprocess.SubprocessError:
        return f"{package} cannot be installed for CPython {python}; the claim about it is left out"
    saw(f"CPython {python}", _run(found[-1], "-c", "import platform; print(platform.python_version())").strip())
    return home / "environment/bin" / package.partition("==")[0]


def _trials(it: Setup, binary: Path | str, trials: int) -> Iterator[Trial]:
    if isinstance(binary, str):
        raise Missing(binary)
    saw(it.server.split(" + ")[0], _run(binary, "--version").strip())
    for _ in range(trials):
        yield _served(it, binary)


def _served(it: Setup, binary: Path) -> Trial:
    """Facts: ``handler``, what became of the one registered; ``died``, whether a worker did; ``said``, its word."""
    options = [f"--{it.remedy}"] if it.remedy else []
    command = [binary, "--master", "--need-app", "--disable-logging", "--module", APP, "--processes", str(WORKERS)]
    with folder() as home, kept([*command, "--http-socket", "127.0.0.1:0", *options], home, name="uWSGI") as process:
        bound = r"bound to TCP address 127\.0\.0\.1:(\d+)"
        port = int(process.wait_for(lambda: re.search(bound, process.text()), "a port", 60)[1])
        # A worker that dies is started anew, and dies: one death decides.
        dead = r"DAMN ! worker|Fatal Python error"
        process.wait_for(lambda: re.search(rf"spawned uWSGI worker {WORKERS} |{dead}", process.text()), "workers", 60)
        answers = _asked(port, it.requests)
        if not answers:
            for word in ("DAMN ! worker", FATAL):
                process.wait_for(lambda word=word: re.search(word, process.text()), "the end of a worker", 60)
        said = re.search(FATAL, process.text())
        died = "DAMN ! worker" in process.text()
    ran = {"ran" if answer["ran"] else "did not run" for answer in answers}
    facts = {"died": int(died), "said": said[0] if said else "", "handler": ", ".join(ran) or "no answer"}
    hung = [Outcome("hung")] if len(answers) < it.requests else []
    return Trial(Tally.of([*[Outcome("right")] * len(answers), *hung]), facts=facts)


def _asked(port: int, requests: int) -> list[dict]:
    """The answers, up to the first that fails to come: the socket is the master's, who lives and serves nobody."""
    answers: list[dict] = []
    for _ in range(requests):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
                answers.append(json.load(response))
        except OSError:
            break
    return answers


def _run(*command: str | Path) -> str:
    how = {"check": True, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 400}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, **how).stdout
