# SPDX-License-Identifier: 0BSD
"""The small frozen shapes between the readers of a configuration and the rules that judge it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple


class CannotRead(Exception):
    """A configuration that cannot be read or understood; the text is one line that says what to do."""


class Place(NamedTuple):
    """Where something is written; of a command line, *line* is the number of the argument."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Note(NamedTuple):
    """What was taken for granted or could not be seen; no finding."""

    where: Place
    text: str


@dataclass(frozen=True)
class Option:
    """A setting as it is written. Its value is ``None`` if it is not known, and *why* says for what reason."""

    name: str
    value: Any
    where: Place
    why: str = ""


@dataclass(frozen=True)
class Engine:
    """A call of ``create_engine``, with its URL and keyword arguments as far as they are literal."""

    where: Place
    url: str | None = None
    keywords: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Cure:
    """Something that gives a child a pool of its own: which hook it stands in, or the recipe that it is of.

    ``close`` is what a ``dispose()`` in the hook is told: ``True``, ``False``, or ``None`` if it is none or not known.
    """

    name: str
    where: Place
    close: bool | None = None


@dataclass(frozen=True)
class Code:
    """What was read of the application's source, or of a configuration that is Python."""

    files: tuple[str, ...] = ()
    engines: tuple[Engine, ...] = ()
    cures: tuple[Cure, ...] = ()
    waits_for_greenlets: bool = False

    def __add__(self, other: Code) -> Code:
        return Code(
            self.files + other.files,
            self.engines + other.engines,
            self.cures + other.cures,
            self.waits_for_greenlets or other.waits_for_greenlets,
        )


@dataclass(frozen=True)
class Imported:
    """What an import left behind: the last line of the application on the way to each open connection, and more."""

    module: str
    opened_at: tuple[Place, ...] = ()
    checked_out: int = 0
    in_transaction: int = 0
    threads: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """All that is known of one server; *server* is uwsgi, gunicorn, celery or import, which stands for any of them."""

    server: str
    source: str
    options: tuple[Option, ...] = ()
    code: Code = Code()
    words: tuple[Cure, ...] = ()
    notes: tuple[Note, ...] = ()
    imported: Imported | None = None
    max_connections: int | None = None

    def last(self, *names: str) -> Option | None:
        """The last option of one of these names, which is the one that counts."""
        return next((option for option in reversed(self.options) if option.name in names), None)

    def all(self, *names: str) -> list[Option]:
        return [option for option in self.options if option.name in names]

    def on(self, *names: str) -> Option | None:
        """The last option of one of these names, if it is known and not switched off."""
        option = self.last(*names)
        return option if option and is_on(option.value) else None

    def undecided(self, *names: str) -> bool:
        option = self.last(*names)
        return option is not None and option.value is None

    def number(self, *names: str, default: int | None) -> int | None:
        """The number that is set, *default* if none is, and ``None`` if it is not known."""
        option = self.last(*names)
        if not option:
            return default
        text = str(option.value).strip()
        return int(text) if text.isdecimal() and len(text) < 10 else None


# As uWSGI takes them: whatever is not one of these is yes.
OFF = ("false", "off", "no", "0", "none")


def is_on(value: Any) -> bool:
    return value is not None and str(value).strip().lower() not in OFF
