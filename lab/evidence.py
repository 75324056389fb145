"""From experiments to evidence on file."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import json
import os
import pkgutil
import platform
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import sqlalchemy

from lab import components
from lab.shapes import Arm, Check, Evidence, Role, Setup, Trial

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "evidence"


@dataclass(frozen=True)
class Effort:
    """How much of it to run: all for the record, less for the gate."""

    name: str

    def pick(self, record: int, gate: int) -> int:
        return record if self.name == "record" else gate


RECORD, GATE = Effort("record"), Effort("gate")


@dataclass(frozen=True)
class Experiment:
    """A function from an effort to arms, the claim that it decides, and the files that decide what it does."""

    claim: str
    seeds: tuple[str, ...]
    run: Callable[[Effort], Iterable[Arm]]
    sources: tuple[Path, ...]
    gated: bool = True

    @property
    def digest(self) -> str:
        return digest(self.sources)

    def evidence(self, effort: Effort) -> Evidence:
        """Run it. Versions are read from the running parts, which report them through :func:`saw`."""
        arms = tuple(self.run(effort))
        return Evidence(self.claim, arms, _versions_of(arms), _machine(), _today(), self.digest)


_experiments: dict[str, Experiment] = {}
_versions: dict[str, str] = {"Python": platform.python_version(), "SQLAlchemy": sqlalchemy.__version__}


def experiment(claim: str, *, seeds: Sequence[str] = (), uses: Sequence[str] = (), gated: bool = True) -> Callable:
    """Register the decorated function as the experiment of *claim*.

    *seeds* are the ids of the source documents' claims that it answers; *uses* names further files, relative to the
    project, whose change makes recorded evidence outdated (the module of the function always does). One that is not
    *gated* needs what no fresh machine has: it is recorded where that is found, and the gate judges the record.
    """

    def register(function: Callable[[Effort], Iterable[Arm]]) -> Callable[[Effort], Iterable[Arm]]:
        if claim in _experiments:
            raise ValueError(f"two experiments for the claim {claim!r}")
        files = (Path(sys.modules[function.__module__].__file__), *(ROOT / name for name in uses))
        _experiments[claim] = Experiment(claim, tuple(seeds), function, files, gated)
        return function

    return register


def experiments() -> dict[str, Experiment]:
    """All experiments by claim id, in the order of their modules."""
    import lab.experiments

    for module in pkgutil.iter_modules(lab.experiments.__path__):
        importlib.import_module(f"lab.experiments.{module.name}")
    # Who imported one of the modules before has registered its experiments first.
    return dict(sorted(_experiments.items(), key=lambda known: known[1].sources[0]))


def arm(name: str, role: Role, setup: Setup, checks: Sequence[Check], run: Callable[[], Iterable[Trial]]) -> Arm:
    """Run one arm. A missing component leaves it not run, with the line that says so; in CI it is an error."""
    try:
        return Arm(name, role, setup, tuple(checks), tuple(run()))
    except components.Missing as missing:
        if os.environ.get("CI") == "true":
            raise
        return Arm(name, role, setup, tuple(checks), (), str(missing))


def saw(component: str, version: str) -> None:
    """Note the *version* that a running *component* reported of itself; *component* as a ``Setup`` names it."""
    _versions[component] = version


def digest(sources: Iterable[Path]) -> str:
    """Digest what *sources* do: Python without comments and docstrings, other files byte by byte."""
    total = hashlib.sha256()
    for path in sorted(sources):
        text = path.read_text()
        total.update(path.relative_to(ROOT).as_posix().encode())
        total.update(repr(_essence(_bare(ast.parse(text)))).encode() if path.suffix == ".py" else text.encode())
    return total.hexdigest()[:16]


def load(claim: str) -> Evidence:
    """Read the evidence on file.

    Raises:
        FileNotFoundError: none has been recorded.
    """
    return Evidence.from_json(json.loads((FOLDER / f"{claim}.json").read_text()))


def save(evidence: Evidence) -> Path:
    path = FOLDER / f"{evidence.claim}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(evidence.to_json(), indent=1, ensure_ascii=False) + "\n")
    return path


def _bare(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and _is_text(body[0].value):
            node.body = body[1:]
    return tree


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _essence(node: object) -> object:
    # ast.dump differs between Python versions; names and values of what is set do not.
    if isinstance(node, ast.AST):
        return (type(node).__name__, *((k, _essence(v)) for k, v in ast.iter_fields(node) if v not in (None, [])))
    return [_essence(item) for item in node] if isinstance(node, list) else node


def _versions_of(arms: Iterable[Arm]) -> dict[str, str]:
    setups = [arm.setup for arm in arms if not arm.not_run]
    named = {name for setup in setups for name in _parts(setup)}
    return {name: version for name, version in sorted(_versions.items()) if name in named | {"Python", "SQLAlchemy"}}


def _parts(setup: Setup) -> list[str]:
    return [setup.database, setup.driver, *setup.server.split(" + "), *setup.framework.split(" + ")]


def _machine() -> dict[str, object]:
    return {"cores": os.cpu_count(), "kernel": platform.release().split("-")[0], "system": _system()}


@functools.cache
def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


def _today() -> str:
    return date.today().isoformat()
