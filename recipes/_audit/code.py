# SPDX-License-Identifier: 0BSD
"""Read Python source without running it: engines, what runs after a fork, and plain settings."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from .shapes import CannotRead, Code, Cure, Engine, Option, Place
from .uwsgi import text_of

# What registers a function to run in the child, by the last parts of its dotted name.
REGISTERS = {
    "postfork": "postfork",
    "worker_process_init.connect": "worker_process_init",
    "register_at_fork": "after_in_child",
}
RECIPES = re.compile(
    r"(?:^|\.)(fork_safe_engine\.protect|(?:uwsgi|celery|multiprocessing)_postfork\.install|gunicorn_postfork\.post_fork)$"
)
STARTS_EMPTY = re.compile(r"_postfork\.(start_empty|post_fork)$")


def parse(path: Path) -> ast.Module:
    """Raises CannotRead: it is no Python, or none of this version."""
    text = text_of(path)
    try:
        # What Python would warn of is no matter of the audit.
        with warnings.catch_warnings(action="ignore"):
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError) as problem:
        line = getattr(problem, "lineno", 0) or 0
        said = getattr(problem, "msg", str(problem))
        raise CannotRead(f"{path}:{line}: not valid Python: {said}; correct it first") from None


def names_of(tree: ast.Module) -> dict[str, str]:
    """What each imported name stands for, dotted."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module or ''}.{a.name}".lstrip(".") for a in node.names}
    return names


def dotted(node: ast.AST, names: dict[str, str]) -> str:
    """``a.b.c`` for a name or an attribute, imported names replaced by what they stand for; else nothing."""
    if isinstance(node, ast.Call):
        return dotted(node.func, names)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def facts(path: Path, hooks: Iterable[str] = ()) -> Code:
    """What one file says; the functions called *hooks* run in the child because of their name.

    Raises:
        CannotRead: it is no Python.
    """
    tree = parse(path)
    names = names_of(tree)
    at = lambda node: Place(str(path), node.lineno)  # noqa: E731
    engines, cures = [], []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, names)
        if name.rpartition(".")[2] in ("create_engine", "create_async_engine", "engine_from_config"):
            engines.append(_engine(node, names, at(node)))
        elif name.endswith("flask_sqlalchemy.SQLAlchemy"):
            engines.append(Engine(at(node)))
        elif found := RECIPES.search(name):
            cures.append(Cure(found[1], at(node)))
    for node, hook in _hooks(tree, names, hooks):
        cures += _in_hook(node, hook, names, str(path))
    waits = bool(re.search(r"\b(psycogreen|set_wait_callback)\b", ast.unparse(tree)))
    return Code((str(path),), tuple(engines), tuple(cures), waits)


def _engine(call: ast.Call, names: dict[str, str], where: Place) -> Engine:
    url = _literal(call.args[0]) if call.args else None
    keywords = {k.arg: _literal(k.value) for k in call.keywords if k.arg}
    for keyword in call.keywords:
        if keyword.arg == "poolclass":
            keywords["poolclass"] = dotted(keyword.value, names).rpartition(".")[2]
    return Engine(where, url if isinstance(url, str) else None, keywords)


def _hooks(tree: ast.Module, names: dict[str, str], by_name: Iterable[str]) -> Iterator[tuple[ast.AST, str]]:
    """Every function, lambda or bound method that runs in a child, and because of which hook."""
    functions = {n.name: n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}
    found: list[tuple[ast.AST, str]] = [(functions[name], name) for name in by_name if name in functions]
    for node in tree.body:
        bound = [t.id for t in node.targets if isinstance(t, ast.Name)] if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.ImportFrom):
            bound = [a.asname or a.name for a in node.names]
        found += [(node, name) for name in by_name if name in bound]
    for function in functions.values():
        for decorator in function.decorator_list:
            if hook := _registers(dotted(decorator, names)):
                found.append((function, hook))
            elif _is_checkout_guard(decorator, function, names):
                found.append((function, "guard"))
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        if hook := _registers(dotted(call.func, names)):
            wanted = [k.value for k in call.keywords if k.arg in ("after_in_child", "receiver")]
            for what in [*(call.args if hook != "after_in_child" else ()), *wanted]:
                found.append((functions.get(what.id, what) if isinstance(what, ast.Name) else what, hook))
    seen = {id(node) for node, _ in found}
    for node, hook in found:
        yield node, hook
        # A hook may leave the work to functions of the same file.
        for call in ast.walk(node):
            name = call.func.id if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) else ""
            called = functions.get(name)
            if called and id(called) not in seen:
                seen.add(id(called))
                found.append((called, hook))


def _registers(name: str) -> str:
    return next((hook for tail, hook in REGISTERS.items() if f".{name}".endswith(f".{tail}")), "")


def _is_checkout_guard(decorator: ast.AST, function: ast.AST, names: dict[str, str]) -> bool:
    listens = isinstance(decorator, ast.Call) and dotted(decorator, names).endswith("listens_for")
    return listens and "checkout" in ast.unparse(decorator) and "getpid" in ast.unparse(function)


def _in_hook(node: ast.AST, hook: str, names: dict[str, str], file: str) -> Iterator[Cure]:
    if hook == "guard":
        yield Cure("guard", Place(file, node.lineno))
        return
    bound = names.get(hook, "") if isinstance(node, ast.ImportFrom) else dotted(getattr(node, "value", node), names)
    if STARTS_EMPTY.search(bound):
        yield Cure(bound.rpartition(".")[0].rpartition(".")[2] + ".post_fork", Place(file, node.lineno))
    if isinstance(node, ast.Attribute) and node.attr == "dispose":
        yield Cure(hook, Place(file, node.lineno), True)
    kept = "Py_IncRef" in ast.unparse(node)
    for call in (n for n in ast.walk(node) if isinstance(n, ast.Call)):
        if STARTS_EMPTY.search(dotted(call.func, names)):
            yield Cure(hook, Place(file, call.lineno))
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "dispose":
            given = [k.value for k in call.keywords if k.arg == "close"] or call.args[:1]
            close = _literal(given[0]) if given else True
            yield Cure(hook, Place(file, call.lineno), None if kept and close is False else close)


def _literal(node: ast.AST):
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def settings_of(path: Path) -> list[Option]:
    """The names that a Python file sets: at its top, in a class, on ``….conf`` or in ``….conf.update()``.

    Raises:
        CannotRead: it is no Python.
    """
    options: list[Option] = []

    def put(name: str, node: ast.AST, certain: bool) -> None:
        where, value = Place(str(path), node.lineno), _literal(node)
        if isinstance(node, ast.Constant) and node.value is None:
            value = False
        why = "not a literal" if certain else "it is set only at times"
        options.append(Option(name, value if certain else None, where, why))

    def walk(body: Iterable[ast.stmt], certain: bool) -> None:
        for node in body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    if isinstance(target, ast.Name):
                        put(target.id, node.value, certain)
                    elif isinstance(target, ast.Attribute) and dotted(target.value, {}).endswith("conf"):
                        put(target.attr, node.value, certain)
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                put(node.target.id, node.value, False)
            elif isinstance(node, ast.Expr) and dotted(node.value, {}).endswith("conf.update"):
                for keyword in node.value.keywords:
                    put(keyword.arg or "", keyword.value, certain)
            elif isinstance(node, ast.ClassDef):
                walk(node.body, certain)
            elif isinstance(node, (ast.If, ast.For, ast.While, ast.Try, ast.With)):
                for part in ("body", "orelse", "finalbody"):
                    walk(getattr(node, part, ()), certain and isinstance(node, ast.With))

    walk(parse(path).body, True)
    return options
