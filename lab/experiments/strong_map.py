"""History, dated by a run: SQLAlchemy's identity map before it was weak. Needs Python 2.7 and a package index."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy

from lab.components import Missing, which
from lab.evidence import ROOT, Effort, arm, experiment, saw
from lab.process import environment, folder
from lab.shapes import Arm, Check, Role, Setup, Trial

SCRIPT = ROOT / "lab" / "history" / "strong_map.py"
OLD_PYTHON = "CPython 2.7"
NEWEST = f"SQLAlchemy {sqlalchemy.__version__}"
RELEASES = {"SQLAlchemy 0.3": "0.3.11", "SQLAlchemy 0.4": "0.4.8"}
VERSION = "import platform; print(platform.python_version())"

KEPT = [Check("in_map", "==", 1), Check("query", "==", "old"), Check("get", "==", "old"), Check("stored", "==", "new")]
GONE = [Check("in_map", "==", 0), Check("query", "==", "new"), Check("get", "==", "new"), Check("stored", "==", "new")]


@experiment("stale-strong-map-history", seeds=["I3"], uses=["lab/history/strong_map.py"], gated=False)
def strong_map(effort: Effort) -> Iterator[Arm]:
    """Facts: ``in_map``, how many objects the Session knew after the only one was let go of and collected; ``query``
    and ``get``, what it read after another Session had stored ``stored``.
    """
    arms: list[tuple[str, Role, str, str]] = [
        ("SQLAlchemy 0.3", "hazard", "released", "default"),
        ("SQLAlchemy 0.3", "remedy", "released", "weak"),
        ("SQLAlchemy 0.4", "control", "released", "default"),
        ("SQLAlchemy 0.4", "hazard", "released", "strong"),
        ("SQLAlchemy 0.4", "hazard", "held", "default"),
        (NEWEST, "control", "released", "default"),
        (NEWEST, "hazard", "held", "default"),
    ]
    for release, role, held, kind in arms:
        server = "" if release == NEWEST else OLD_PYTHON
        remedy = "weak_identity_map=True" if kind == "weak" else "none"
        mode = "weak_identity_map=False" if kind == "strong" else ""
        setup = Setup("sqlite", "sqlite", server=server, framework=release, held=held, remedy=remedy, mode=mode)
        name = ", ".join(filter(None, (release, mode, remedy if kind == "weak" else "", held)))
        run = functools.partial(_trials, release, held, kind, effort)
        yield arm(name, role, setup, KEPT if role == "hazard" else GONE, run)


def _trials(release: str, held: str, kind: str, effort: Effort) -> Iterator[Trial]:
    with folder() as home:
        if release == NEWEST:
            python, path = sys.executable, ""
        else:
            python, path = _old_python(), str(_installed(home, release))
        for nth in range(effort.pick(5, 1)):
            told = json.loads(_output(python, SCRIPT, home / f"{nth}.sqlite", held, kind, path=path))
            if path:
                saw(OLD_PYTHON, told["python"])
                saw(release, RELEASES[release])
            yield Trial(facts=told)


def _installed(home: Path, release: str) -> Path:
    packages = home / "packages"
    wanted = f"SQLAlchemy=={RELEASES[release]}"
    try:
        _output(_old_python(), "-m", "pip", "install", "--no-deps", "--target", packages, wanted, seconds=300)
    except subprocess.SubprocessError:
        raise Missing(f"{wanted} cannot be installed for {OLD_PYTHON}; the claim about its map is left out") from None
    return packages


@functools.cache
def _old_python() -> str:
    """A Python 2.7 on the PATH, or among those of pyenv.

    Raises:
        Missing: there is none that runs.
    """
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for place in filter(None, (which("python2.7"), *sorted(root.glob("versions/2.7*/bin/python2.7")))):
        try:
            if _output(place, "-c", VERSION).startswith("2.7"):
                return str(place)
        except (OSError, subprocess.SubprocessError):
            continue
    raise Missing(f"{OLD_PYTHON} is missing; the claim about SQLAlchemy 0.3 needs it and is left out")


def _output(*command: str | Path, path: str = "", seconds: float = 60) -> str:
    # The other interpreter has nothing to do with this one's modules.
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    env |= {"PYTHONPATH": path} if path else {}
    how = {"env": env, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": seconds, "check": True}
    return subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, **how).stdout
