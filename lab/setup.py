"""Make this checkout ready: ``python3 -m lab.setup``; with ``--check`` say what is there, and its versions.

First ``.venv`` from the locks, then the system packages that are missing, where this user may install them, then what
has to be compiled. A step is skipped while the stamp that it left in ``.venv`` still fits. With ``CI=true`` anything
that is missing is an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV_LOCK = ROOT / "requirements-uv.lock"
LOCK = ROOT / "requirements.lock"
OLDEST_LOCK = ROOT / "requirements-oldest.lock"
FLASK_LOCK = ROOT / "requirements-flask.lock"
COMPILED_LOCK = ROOT / "requirements-compiled.lock"
APACHE_LOCK = ROOT / "requirements-apache.lock"
OLDEST_PYTHON = (3, 11)
CHECK = "python3 -m lab.setup --check"

# Installs the packages in $@ so that no daemon is started, now or at the next boot, and no database is made. It cleans
# up after itself however it ends: a policy left behind would keep this machine's own services from starting.
INSTALL = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/lab.conf mark='# by lab/setup.py'
clean() {
  if grep -qs "^$mark" $policy; then rm -f $policy; fi
  rm -f $cluster
  rmdir -p --ignore-fail-on-non-empty ${cluster%/*}
}
trap clean EXIT; trap 'exit 130' INT; trap 'exit 143' TERM HUP
[ -e $policy ] || { printf '#!/bin/sh\n%s: gone when it is done\nexit 101\n' "$mark" > $policy; chmod 755 $policy; }
mkdir -p ${cluster%/*}; echo 'create_main_cluster = false' > $cluster
fresh=
for service in nginx pgbouncer postgresql redis-server; do [ -e /etc/init.d/$service ] || fresh="$fresh $service"; done
apt-get update -q || true
known=
for package; do
  if apt-cache show "$package" > /dev/null 2>&1; then known="$known $package"
  else echo "E: apt knows no package $package (is there a network?)"; unknown=yes; fi
done
[ -z "$known" ] || apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=120 $known
for service in $fresh; do [ ! -e /etc/init.d/$service ] || update-rc.d $service disable; done
[ -z "${unknown-}" ]
"""


class Failure(Exception):
    """Why this checkout cannot be made ready, in one line."""


def main(arguments: Sequence[str]) -> int:
    try:
        trouble = unfit(sys.version_info[:3], importlib.util.find_spec("ensurepip") is not None)
        if trouble:
            raise Failure(trouble)
        with _alone():
            return check() if "--check" in arguments else make_ready()
    except (Failure, OSError) as problem:
        print(f"setup: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def unfit(version: tuple[int, ...], has_ensurepip: bool) -> str:
    """Why this Python cannot make the environment, in one line; empty when it can."""
    if version < OLDEST_PYTHON:
        wanted, this = (".".join(map(str, numbers)) for numbers in (OLDEST_PYTHON, version))
        return f"Python {wanted} or newer is needed and this is {this}; name another one: make PYTHON=python{wanted}"
    return "" if has_ensurepip else "this Python cannot make environments; to install: apt-get install python3-venv"


def make_ready() -> int:
    # Not sys.version: the step that installs packages may bring a newer build of the same Python.
    place = f"{sys.implementation.cache_tag} {sys.base_prefix} {ROOT}"
    if not PYTHON.exists():
        (VENV / "setup-python").unlink(missing_ok=True)
    locks = (UV_LOCK, LOCK, OLDEST_LOCK, FLASK_LOCK)
    once("python", place + "".join(lock.read_text() for lock in locks), _make_venv)
    components = _components()
    notes = []
    names = sorted({package for component in components.missing() for package in component.packages})
    if names:
        notes.append(once("packages", " ".join(names), lambda: _install_packages(names)))
        components.look_again()
    if components.find("compiler"):
        notes.append(_compile("compiled", COMPILED_LOCK, "uWSGI, mysqlclient and MariaDB Connector"))
        if components.find("apache"):
            notes.append(_compile("apache", APACHE_LOCK, "mod_wsgi"))
    notes = [*filter(None, notes), *_told(components)]
    for note in notes:
        print(note, file=sys.stderr)
    return 1 if notes and os.environ.get("CI") == "true" else 0


def check() -> int:
    components = _components()
    print(f"{'Python':<15} {sys.version.split()[0]}; {'.venv is there' if PYTHON.exists() else 'no .venv yet'}")
    for component in components.COMPONENTS:
        found = components.find(component.name)
        print(f"{component.name:<15} {f'{components.version(component.name)} ({found})' if found else 'missing'}")
    for line in components.report():
        print(line)
    return 0


def once(name: str, reason: str, step: Callable[[], str]) -> str:
    """Run *step* unless it ended before with the same *reason*. Returns the note that it left, then or now."""
    stamp = VENV / f"setup-{name}"
    if not stamped(name, reason):
        note = step()
        stamp.write_text(f"{_digest(reason)}\n{note}")
    return stamp.read_text().partition("\n")[2]


def stamped(name: str, reason: str) -> bool:
    """Whether the step ended before with the same *reason*."""
    stamp = VENV / f"setup-{name}"
    return stamp.exists() and stamp.read_text().partition("\n")[0] == _digest(reason)


def _digest(reason: str) -> str:
    return hashlib.sha256(reason.encode()).hexdigest()


def _told(components: ModuleType) -> list[str]:
    """A line for each missing component when this is news, one for all of them when it is not."""
    lines, names = components.report(), ", ".join(component.name for component in components.missing())
    if not lines or not stamped("told", names):
        once("told", names, str)
        return lines
    return [f"setup: missing, and what needs them is left out: {names} (more: {CHECK})"]


def _make_venv() -> str:
    _say("making .venv from requirements.lock")
    made = _run([sys.executable, "-m", "venv", "--clear", VENV])
    if made.returncode:
        raise Failure(f"cannot make {VENV.name}: {_last_words(made)}")
    _run([PYTHON, "-m", "pip", "install", "--require-hashes", "-r", UV_LOCK])
    # The oldest SQLAlchemy that the recipes name stands apart: the site's own tools use the newest.
    for lock, options in (LOCK, ()), (OLDEST_LOCK, ("--no-deps", "--target", VENV / "oldest")):
        installed = _install(lock, *options)
        if installed.returncode:
            hint = "is there a network, or an index that pip is told of?"
            raise Failure(f"cannot install {lock.name} ({hint}): {_last_words(installed)}")
    for version, entry in flasks().items():
        one = VENV / f"flask-{version}.lock"
        one.write_text(entry)
        installed = _install(one, "--no-deps", "--target", VENV / "flask" / version)
        if installed.returncode:
            raise Failure(f"cannot install Flask {version}: {_last_words(installed)}")
    # A wheel that has yet to unpack itself does so here, where being interrupted means to start again.
    _components().find("postgresql")
    return ""


def flasks() -> dict[str, str]:
    """The releases of Flask that stand apart, each with its own part of their lock: no environment can hold two."""
    entries = re.split(r"\n(?=\S)", FLASK_LOCK.read_text())
    return {re.match(r"flask==(\S+)", entry)[1]: entry for entry in entries}


def _install_packages(names: Sequence[str]) -> str:
    if not shutil.which("apt-get"):
        return ""
    sudo = []
    if os.geteuid() != 0:
        sudo = ["sudo", "-n"]
        if not shutil.which("sudo") or _run([*sudo, "true"]).returncode:
            return ""
    _say(f"installing system packages: {' '.join(names)}")
    with _left_to_the_child(signal.SIGINT):
        done = _run([*sudo, "sh", "-c", INSTALL, "sh", *names])
    if done.returncode in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    return _note("not all system packages could be installed", done, "packages")


def _compile(step: str, lock: Path, what: str) -> str:
    def compile() -> str:
        _say(f"compiling {what}")
        return _note(f"left out, as it does not compile: {what}", _install(lock, "--no-cache-dir"), step)

    return once(step, lock.read_text(), compile)


def _note(what: str, done: subprocess.CompletedProcess[str], step: str) -> str:
    again = f"to try again: rm {VENV.name}/setup-{step}"
    return f"{what}: {_last_words(done)}; {again}" if done.returncode else ""


def _install(lock: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    arguments = ["pip", "install", "--require-hashes", *options, "-r", lock]
    done = _run([VENV / "bin" / "uv", *arguments], _environment_of_uv())
    # Where uv does not run, or cannot use what pip was told of proxies and certificates, pip is slower and does it.
    return _run([PYTHON, "-m", *arguments]) if done.returncode else done


def _environment_of_uv() -> dict[str, str]:
    environment = {**os.environ, "VIRTUAL_ENV": str(VENV), "UV_PYTHON_DOWNLOADS": "never"}
    if not {"UV_DEFAULT_INDEX", "UV_INDEX_URL"} & environment.keys():
        told = _run([PYTHON, "-m", "pip", "config", "get", "global.index-url"])
        index = environment.get("PIP_INDEX_URL") or (told.stdout.strip() if told.returncode == 0 else "")
        environment |= {"UV_DEFAULT_INDEX": index} if index else {}
    return environment


def _components() -> ModuleType:
    # Not imported above: an older Python is to get its one line. The system's Python sees the environment's wheels.
    for path in (str(ROOT), sysconfig.get_path("purelib", "venv", {"base": str(VENV)})):
        if path not in sys.path:
            sys.path.append(path)
    importlib.invalidate_caches()
    from lab import components

    return components


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    with open(__file__) as this:
        fcntl.flock(this, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _left_to_the_child(number: signal.Signals) -> Iterator[None]:
    # subprocess would kill a child that takes its time to clean up. A handler, unlike SIG_IGN, is not inherited.
    before = signal.signal(number, lambda *_: _say("stops as soon as apt-get has come to a safe point"))
    try:
        yield
    finally:
        signal.signal(number, before)


def _run(
    command: Sequence[str | Path], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=ROOT,
            check=False,
        )
    except OSError as problem:
        return subprocess.CompletedProcess(command, 127, str(problem))


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("e:", "err", "\N{MULTIPLICATION SIGN}"))]
    return (errors or lines or ["no word why"])[-1]


def _say(line: str) -> None:
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
