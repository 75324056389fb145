# SPDX-License-Identifier: 0BSD
"""Read uWSGI's own dialect of INI, and its YAML as far as that is a flat mapping, as uWSGI reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .shapes import CannotRead, Cure, Option, Place

# The author's word that the application does after a fork what a configuration cannot show.
WORD = re.compile(r"^\s*[;#]\s*(?:(Recipe: uwsgi-prefork)\b|audit: .*?(\w*_?postfork|fork_safe_engine)\b)")
ALIASES = {
    "workers": "processes",
    "p": "processes",
    "w": "module",
    "wsgi": "module",
    "file": "wsgi-file",
    "R": "max-requests",
    "t": "harakiri",
    "Q": "spooler",
    "M": "master",
    "T": "enable-threads",
    "y": "yaml",
    "yml": "yaml",
    "x": "xml",
    "xmlconfig": "xml",
    "j": "json",
    "js": "json",
    "lazy-app": "lazy-apps",
    "python-path": "pythonpath",
    "pp": "pythonpath",
    "spooler-python-import": "spooler-import",
    "spooler-py-import": "spooler-import",
    "spooler-pyimport": "spooler-import",
    **{f"{prefix}import": "import" for prefix in ("py", "py-", "python-")},
    **{f"shared-{prefix}import": "shared-import" for prefix in ("py", "py-", "python-")},
}
INCLUDES = ("ini", "include", "yaml")


@dataclass
class Read:
    """What has been read so far, of one configuration and all that it includes."""

    options: list[Option] = field(default_factory=list)
    words: list[Cure] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def add(self, name: str, value: str | None, where: Place, why: str = "") -> None:
        """Take one option, or read the file that it includes."""
        name = ALIASES.get(name, name)
        if name in ("xml", "json"):
            raise CannotRead(f"{where}: uWSGI's {name} is not read here; write it as INI, or give the command line")
        if name not in INCLUDES:
            self.options.append(Option(name, value, where, why))
        elif value is None:
            raise CannotRead(f"{where}: {name}: the name of the file is not known; replace what stands for it")
        else:
            self.include(value, where)

    def include(self, name: str, where: Place) -> None:
        """Read a file that another one, or the command line, names, with or without ``:section`` at its end."""
        # uWSGI takes ":section" for one of the file that it has read last.
        before = self.files[-1].rpartition(":")[0] if self.files else ""
        path, section = split_section(name, before)
        # uWSGI looks in its working folder, which is not known: where the including file lies is the second guess.
        found = next((p for p in (path, Path(where.file).parent / path) if p.is_file()), None)
        if not found:
            raise CannotRead(f"{where}: {path}: no such file; run the audit where the server is started")
        self.read(found, section)

    def read(self, path: Path, section: str = "uwsgi") -> None:
        """Read *path*, by the ending of its name.

        Raises:
            CannotRead: it is no text, has no such section, includes itself, or is YAML of more than a flat mapping.
        """
        key = f"{path.resolve()}:{section}"
        if key in self.files:
            raise CannotRead(f"{path}: includes itself; take one of the two lines out")
        self.files.append(key)
        lines = text_of(path).split("\n")
        for number, line in enumerate(lines, 1):
            if found := WORD.match(line):
                self.words.append(Cure(found[1] or found[2], Place(str(path), number)))
        reader = _yaml if path.suffix in (".yaml", ".yml") else _ini
        conditions = 0
        found = False
        for name, raw, number in reader(lines, path, section):
            found, where = True, Place(str(path), number)
            if re.match(r"(if|ifnot)-|if$|for", name):
                conditions += 1
            elif name in ("endif", "end-if", "endfor", "end-for"):
                conditions -= 1
            else:
                value, why = self.expand(raw, path, section)
                if conditions > 0:
                    value, why = None, "it stands in an if- or for- block"
                self.add(name, value, where, why)
        if not found:
            raise CannotRead(f"{path}: no option of a section [{section}]; is it a configuration of uWSGI?")

    def expand(self, raw: str, path: Path, section: str) -> tuple[str | None, str]:
        """Fill in what uWSGI fills in, as far as the file alone tells it; else ``None``, and why."""
        whole = path.resolve()
        magic = {"p": whole, "s": whole.name, "d": f"{whole.parent}/", "n": whole.stem, "c": whole.parent.name}
        magic |= {"x": "" if section == "uwsgi" else section, "%": "%"}
        unknown: list[str] = []

        def fill(match: re.Match[str]) -> str:
            if match[1]:
                unknown.append(f"{match[0]} is from the environment or from elsewhere")
            elif match[2]:
                earlier = next((o for o in reversed(self.options) if o.name == ALIASES.get(match[2], match[2])), None)
                if earlier and earlier.value is not None:
                    return earlier.value
                unknown.append(f"{match[0]} is not set before")
            elif match[3] in magic:
                return str(magic[match[3]])
            elif match[3]:
                unknown.append(f"{match[0]} is filled in by uWSGI")
            return match[0]

        value = re.sub(r"([$@]\([^)]*\))|%\(([^)]*)\)|%([a-zA-Z%])", fill, raw)
        return (None, unknown[0]) if unknown else (value, "")


def split_section(name: str, before: str = "") -> tuple[Path, str]:
    """``FILE:SECTION`` as uWSGI takes it; without a file it is the one that was read *before*."""
    file, colon, section = name.rpartition(":")
    if not colon:
        return Path(name), "uwsgi"
    return Path(file or before), section or "uwsgi"


def text_of(path: Path) -> str:
    """The text of a file.

    Raises:
        CannotRead: there is none, or it is not text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise CannotRead(f"{path}: a folder; give the file that configures the server") from None
    except OSError as problem:
        raise CannotRead(f"{path}: {problem.strerror}; give the file that configures the server") from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CannotRead(f"{path}: not a text file; give the file that configures the server")
    return text


def _ini(lines: list[str], path: Path, section: str):
    current = ""
    for number, line in enumerate(lines, 1):
        line = line.strip(" \t\r\ufeff")
        if line.startswith("["):
            if not line.endswith("]"):
                raise CannotRead(f"{path}:{number}: no ] at the end of the section's name")
            current = line[1:-1]
        elif line and line[0] not in ";#":
            if not current:
                raise CannotRead(f"{path}:{number}: no [section] before this line; uWSGI's begins with [uwsgi]")
            if current == section:
                name, _, value = line.partition("=")
                yield name.strip(), value.strip(), number


_ENTRY = re.compile(r"(?:([\w-]+)\s*:(?:\s+(.*))?|-\s+(.*))$")


def _yaml(lines: list[str], path: Path, section: str):
    """One mapping under *section*, of scalars and of lists of scalars; anything else is refused."""
    inside, depth, name, waiting = False, 0, "", 0
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        if not bare or bare.startswith("#") or bare in ("---", "..."):
            continue
        indent = len(line) - len(line.lstrip(" "))
        entry = _ENTRY.match(bare)
        if not entry or line[indent] == "\t":
            raise CannotRead(f'{path}:{number}: not read here: "{bare[:40]}"; write one "name: value" a line')
        if not indent and not bare.startswith("-"):
            if entry[2]:
                raise CannotRead(f"{path}:{number}: {entry[1]} is no mapping; uWSGI's options stand under uwsgi:")
            if waiting:
                yield name, "", waiting
            inside, depth, name, waiting = entry[1] == section, 0, "", 0
            continue
        if not inside:
            continue
        if entry[3] is not None:
            if not name:
                raise CannotRead(f'{path}:{number}: an item of no list; write "name:" before it')
            waiting = 0
            yield name, _scalar(entry[3], path, number), number
            continue
        if waiting:
            if depth and indent > depth:
                raise CannotRead(f"{path}:{number}: a mapping within {name}, which is not read here; uWSGI has none")
            yield name, "", waiting
        depth = depth or indent
        if indent != depth:
            raise CannotRead(f"{path}:{number}: indented by {indent} where {depth} is expected")
        name, waiting = entry[1], 0
        if entry[2] is None or not _uncommented(entry[2]):
            waiting = number
        else:
            yield name, _scalar(entry[2], path, number), number
    if waiting:
        yield name, "", waiting


def _uncommented(text: str) -> str:
    return re.sub(r"(?:^|\s+)#.*$", "", text)


def _scalar(text: str, path: Path, number: int) -> str:
    if text[:1] in "\"'":
        end = text.find(text[0], 1)
        if end < 0 or _uncommented(text[end + 1 :]).strip():
            raise CannotRead(f"{path}:{number}: the quotation does not end with the line")
        return text[1:end]
    text = _uncommented(text).strip()
    if text[:1] in tuple("&*!|>{[@`"):
        raise CannotRead(f'{path}:{number}: not read here: "{text[:40]}"; write plain values, lists one item a line')
    return text
