# SPDX-License-Identifier: 0BSD
"""``python -m recipes audit``: say what is unsafe in a server's configuration, why, and what to do.

Readers turn a file or a command line into :class:`Settings`; the rules judge these; what they find is printed. Python
files are parsed and never run, unless ``--import`` names a module.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from . import rules, rules_more  # noqa: F401 (each adds its rules to the table)
from .commands import from_command, from_file
from .importing import imported
from .judge import DECIDE, RULES, cures, loads_first
from .shapes import CannotRead, Note, Settings

DEFAULTS = ("uwsgi.ini", "uwsgi.yaml", "uwsgi.yml", "gunicorn.conf.py", "celeryconfig.py")
SAFE, UNSAFE, UNREADABLE = 0, 1, 2


@dataclass(frozen=True)
class Finding:
    file: str
    line: int
    what: str
    why: str
    remedy: str
    claim: str

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}: {self.what}\n"
            f"  why: {self.why}\n  what to do: {self.remedy}\n  claim: {self.claim}"
        )


def findings(settings: Settings) -> list[Finding]:
    """What the rules find, in the order of the rules."""
    return [
        Finding(_short(where.file), where.line, what, rule.why, rule.remedy, rule.address)
        for rule in RULES
        for where, what in rule.find(settings)
    ]


def notes(settings: Settings) -> list[Note]:
    """What is not known of the settings, and what was taken for granted."""
    unknown = [o for o in settings.options if o.value is None and o.name in DECIDE[settings.server]]
    said = [Note(o.where, f"{o.name} is not known here: {o.why}") for o in unknown]
    for option in settings.options if settings.server == "uwsgi" else ():
        if "_" in option.name and (meant := option.name.replace("_", "-")) in DECIDE["uwsgi"]:
            said.append(Note(option.where, f"uWSGI has no option {option.name}; it is {meant}"))
    if loads_first(settings):
        words = [cure for cure in cures(settings) if cure in settings.words]
        said += [Note(word.where, f"taken at its word, and not seen in code: {word.name}") for word in words]
        said += settings.notes
    return said


def run(given: argparse.Namespace) -> int:
    """Audit what the command line names, print it, and return the exit code."""
    try:
        found = [_complete(settings, given) for settings in _read(given)]
    except CannotRead as problem:
        print(problem, file=sys.stderr)
        return UNREADABLE
    said = list(dict.fromkeys(finding for settings in found for finding in findings(settings)))
    for note in dict.fromkeys(note for settings in found for note in notes(settings)):
        print(
            f"{_short(note.where.file)}:{note.where.line}: note: {note.text}",
            file=sys.stderr if given.json else sys.stdout,
        )
    if given.json:
        print(json.dumps([vars(finding) for finding in said], indent=2))
    else:
        print(*said, _count(said, found), sep="\n")
    return UNSAFE if said else SAFE


def _read(given: argparse.Namespace) -> list[Settings]:
    if given.command_line:
        return [from_command(given.command_line)]
    if len(given.paths) == 1 and " " in given.paths[0].strip() and not Path(given.paths[0]).exists():
        return [from_command(given.paths)]
    paths = given.paths or [name for name in DEFAULTS if Path(name).is_file()]
    if not paths and not given.imported:
        wanted = ", ".join(DEFAULTS)
        raise CannotRead(f"nothing to audit: none of {wanted} is here; give a PATH, or a command line after --")
    return [from_file(path) for path in paths] or [Settings("import", given.imported)]


def _complete(settings: Settings, given: argparse.Namespace) -> Settings:
    seen = imported(given.imported, given.chdir) if given.imported else None
    return replace(settings, imported=seen, max_connections=given.max_connections)


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else file


def _count(said: Sequence[Finding], found: Sequence[Settings]) -> str:
    number = f"{len(said) or 'no'} finding{'s' * (len(said) > 1)}"
    return f"{number} in {', '.join(settings.source for settings in found)}"


def add_to(commands) -> None:
    """Add the command to ``python -m recipes``."""
    parser = commands.add_parser(
        "audit",
        help="say what is unsafe in a server's configuration",
        description="Say what is unsafe for engines and sessions in the configuration of uWSGI, gunicorn or Celery.",
        epilog="Exit code: 0 no finding, 1 findings, 2 something cannot be read or understood.",
        usage="python -m recipes audit [options] [PATH ...] ['COMMAND LINE'] [-- COMMAND LINE]",
    )
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="uwsgi.ini, uwsgi.yaml, gunicorn.conf.py, celeryconfig.py"
    )
    parser.add_argument("--import", dest="imported", metavar="MODULE[:ATTRIBUTE]", help="import the application, too")
    parser.add_argument("--chdir", type=Path, default=Path(), metavar="DIR", help="where to import it (default: here)")
    parser.add_argument("--max-connections", type=int, metavar="N", help="how many connections the database takes")
    parser.add_argument("--json", action="store_true", help="print an array of objects")
    parser.set_defaults(run=run, command_line=[])
    parse = parser.parse_known_args

    def split(words=None, namespace=None):
        # argparse forgets where "--" stood, and with it which words are a command line and which are paths.
        words = list(words)
        mark = words.index("--") if "--" in words else len(words)
        namespace, rest = parse(words[:mark], namespace)
        namespace.command_line = words[mark + 1 :]
        if mark < len(words) and bool(namespace.command_line) == bool(namespace.paths):
            parser.error("after -- stands one command line, and no PATH before it")
        return namespace, rest

    parser.parse_known_args = split
