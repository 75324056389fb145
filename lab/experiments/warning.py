"""Python 3.12's warning about forks and threads: when it comes, and of what it knows nothing (F5)."""

from __future__ import annotations

import glob
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab.components import Missing
from lab.evidence import ROOT, Effort, arm, experiment, saw
from lab.process import environment
from lab.shapes import Arm, Check, Setup, Trial

SCRIPT = ROOT / "lab" / "scenes" / "warning.py"
VERSION = "import platform; print(platform.python_version())"
WARNS_SINCE = (3, 12)

SILENT, WARNS = Check("warnings", "==", 0), Check("warnings", "==", 1)
BOTH = Check("heard", "==", "child parent")


@experiment("fork-warning-of-threads", seeds=["F5"], uses=["lab/scenes/warning.py"], gated=False)
def warning(effort: Effort) -> Iterator[Arm]:
    found = _interpreters()
    ours = sys.version_info[:2]
    newer = [minor for minor in found if minor >= WARNS_SINCE] or [WARNS_SINCE]
    for minor in newer:
        yield _arm(effort, found, minor, "hazard", "one thread, an open connection", ["socket"], [SILENT, BOTH])
        yield _arm(effort, found, minor, "control", "a second thread, nothing open", ["thread"], [WARNS])
        both = [WARNS, BOTH, Check("names_a_connection", "==", False)]
        yield _arm(effort, found, minor, "control", "a second thread, an open connection", ["thread", "socket"], both)
    if ours < WARNS_SINCE:
        yield _arm(effort, found, ours, "control", "a second thread, nothing open", ["thread"], [SILENT])


def _arm(effort: Effort, found: dict, minor: tuple[int, int], role, moment: str, words: list[str], checks) -> Arm:
    name = "CPython {}.{}".format(*minor)

    def run() -> Iterator[Trial]:
        if minor not in found:
            raise Missing(f"{name} or newer is missing; the claim about its warning needs it and is left out")
        interpreter, version = found[minor]
        saw(name, version)
        for _ in range(effort.pick(3, 1)):
            told = json.loads(_output(interpreter, SCRIPT, *words))
            said = " ".join(told["said"])
            names = any(word in said for word in ("socket", "connection", "descriptor", "file"))
            facts = {"warnings": len(told["said"]), "heard": told["heard"], "said": said, "names_a_connection": names}
            yield Trial(facts=facts)

    it = Setup(server=f"os.fork + {name}", workers=1, moment=moment)
    return arm(f"{name}, {moment}", role, it, checks, run)


def _interpreters() -> dict[tuple[int, int], tuple[str, str]]:
    """Interpreters by minor version, with their whole version: this one, those on the PATH, those of pyenv."""
    named = filter(None, (shutil.which(f"python3.{minor}") for minor in range(12, 20)))
    places = [sys.executable, *named, *sorted(glob.glob(str(Path.home() / ".pyenv/versions/*/bin/python3")))]
    found: dict[tuple[int, int], tuple[str, str]] = {}
    for place in places:
        try:
            version = _output(place, "-c", VERSION).strip()
        except (OSError, subprocess.SubprocessError):
            continue
        major, minor, *_ = map(int, version.split(".")[:2])
        found.setdefault((major, minor), (place, version))
    return dict(sorted(found.items()))


def _output(*command: str | Path) -> str:
    # Another interpreter has nothing to do with this one's modules.
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    how = {"env": env, "stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 60, "check": True}
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, **how).stdout
