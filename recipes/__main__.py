"""``python -m recipes`` lists the recipes, ``check``, ``diagnose`` and ``audit`` look at yours."""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recipes import _audit, _diagnose

FOLDER = Path(__file__).resolve().parent
HEADER = re.compile(r"^[#;] Recipe: (\S+), version (\d+)\b.*\n", re.MULTILINE)
CURRENT, DIFFERS, UNKNOWN = 0, 1, 2


class NotARecipe(Exception):
    """The file is not a copy of a recipe, as far as can be told; the text is one line."""


@dataclass(frozen=True)
class Recipe:
    name: str
    version: int
    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a recipe or a copy of one.

        Raises:
            NotARecipe: it cannot be read, or its header does not say which recipe it is.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as problem:
            raise NotARecipe(f"{path}: {problem.strerror}") from None
        except UnicodeDecodeError:
            raise NotARecipe(f"{path}: not a text file") from None
        header = HEADER.search(text)
        if not header:
            raise NotARecipe(f'{path}: no line "# Recipe: NAME, version N", so it is no copy or has lost its header')
        return cls(header[1], int(header[2]), path, text)

    @property
    def summary(self) -> str:
        """The first sentence of its docstring, or of the comment beneath its header."""
        after = self.text[HEADER.search(self.text).end() :]
        prose = ast.get_docstring(ast.parse(self.text)) if self.path.suffix == ".py" else after.replace("; ", "")
        return re.split(r"(?<=\.)\s|\n\n", prose)[0].replace("\n", " ")


def recipes() -> dict[str, Recipe]:
    """The recipes by name."""
    files = sorted([*FOLDER.glob("[!_]*.py"), *FOLDER.glob("*.ini")])
    return {recipe.name: recipe for recipe in map(Recipe.read, files)}


def show() -> int:
    known = recipes().values()
    width = max(len(recipe.name) for recipe in known)
    for recipe in known:
        print(f"{recipe.name:<{width}}  version {recipe.version}  {recipe.summary}")
    return CURRENT


def check(path: Path) -> int:
    """Say whether the copy at *path* is current, and print what would make it so."""
    known = recipes()
    try:
        copy = Recipe.read(path)
        if copy.name not in known:
            raise NotARecipe(f"{path}: no recipe is called {copy.name}; known: {', '.join(known)}")
    except NotARecipe as problem:
        print(problem, file=sys.stderr)
        return UNKNOWN
    ours = known[copy.name]
    if copy.text == ours.text:
        print(f"{path}: current")
        return CURRENT
    print(f"{path}: {_age(copy.version, ours.version)}; what would make it ours:")
    lines = (recipe.text.splitlines() for recipe in (copy, ours))
    print(*difflib.unified_diff(*lines, str(path), f"recipes/{ours.path.name}", lineterm=""), sep="\n")
    return DIFFERS


def _age(version: int, current: int) -> str:
    if version == current:
        return "current version, edited locally"
    return f"{'older' if version < current else 'newer'}: version {version}, current is {current}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipes",
        description="List the recipes, check a copy of one, diagnose a log, or audit a configuration.",
    )
    parser.set_defaults(run=lambda given: show())
    commands = parser.add_subparsers(metavar="COMMAND")
    commands.add_parser("list", help="list the recipes (the default)")
    checking = commands.add_parser("check", help="tell whether a copied recipe is current, and what changed")
    checking.add_argument("path", type=Path)
    checking.set_defaults(run=lambda given: check(given.path))
    _diagnose.add_to(commands)
    _audit.add_to(commands)
    given = parser.parse_args(arguments)
    return given.run(given)


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read it, such as `head`, has enough; Python would complain once more when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)
