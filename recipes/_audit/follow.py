# SPDX-License-Identifier: 0BSD
"""Read an application from the module that a server is given on, as far as its files are found."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from .code import facts, parse
from .shapes import CannotRead, Code
from .uwsgi import text_of

A_RECIPE = re.compile(r"^# Recipe: \S+, version \d", re.MULTILINE)
MOST_FILES = 500


def follow(modules: Iterable[str], roots: Iterable[Path]) -> Code:
    """What *modules*, and all that they import from below *roots*, say; what is not found there is left out."""
    roots = list(dict.fromkeys(roots))
    waiting, seen, code = list(modules), set(), Code()
    while waiting and len(seen) < MOST_FILES:
        path = _file_of(waiting.pop(0), roots)
        if not path or path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            if A_RECIPE.search(text_of(path)):
                continue
            code += facts(path)
            waiting += _imported(parse(path), path, roots)
        except CannotRead:
            continue
    return code


def _file_of(module: str, roots: list[Path]) -> Path | None:
    if module.endswith(".py") or "/" in module:
        return next((p for p in (Path(module), *(root / module for root in roots)) if p.is_file()), None)
    parts = module.split(".")
    for root in roots if all(parts) else ():
        for path in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if path.is_file():
                return path
    return None


def _imported(tree: ast.Module, path: Path, roots: list[Path]) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif _names_modules(node):
            found += [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                found += [str(base.with_suffix(".py")), str(base / "__init__.py")]
                found += [str(base / f"{a.name}.py") for a in node.names]
            else:
                found += [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
    return [part for name in found for part in ([name] if "/" in name else _with_parents(name))]


def _names_modules(node: ast.AST) -> bool:
    """Tell whether *node* lists modules that Celery imports before it forks."""
    names = [node.arg] if isinstance(node, ast.keyword) else []
    if isinstance(node, ast.Assign):
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
    return bool({"include", "imports", "CELERY_IMPORTS"}.intersection(names))


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts) + 1)]
