"""From a log to the symptoms that it shows: the matcher behind ``python -m recipes diagnose``.

The rows and their patterns are ``symptoms.toml``; ``docs/_static/diagnose.js`` reads the same ones in the browser, and
a test holds the two to the same answers.

A *phrase* is text as people see it. It is looked for with case, white space, quotes and punctuation left out of both
sides, so that a prefix, a colour, an escaped line break, a line that a terminal has wrapped, or an older version's full
stop make no difference. A ``…`` in a phrase stands for anything short. A *rule* says which phrases count for a symptom,
which *signals* (who speaks in the log: a server, a driver, a fork) must be there or must not, and how much it counts.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
import tomllib
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROWS = Path(__file__).with_name("symptoms.toml")
LONGEST_GAP = 80
MOST_LINES = 12
MOST_HITS = 1000
# A symptom that counts for less may itself be a consequence, and puts none behind it.
CAUSE = 60

# Terminal colours, as bytes and as JSON, syslog and `cat -v` write them; letters and line breaks as JSON escapes them;
# HTML's entities.
COLOUR = re.compile(r"(?:\x1b|\\+(?:u001b|x1b|033)|#033|\^\[)\[[0-9;]*[A-Za-z]")
ESCAPED = re.compile(r"\\+u([0-9A-Fa-f]{4})")
NOISE = re.compile(r"\\+[nrt]|&(?:#[0-9A-Za-z]+|quot|apos|lt|gt|amp);")
NO_LETTER = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Rule:
    """One way to know a symptom; ``times`` is how often a phrase must be there, ``after`` puts it behind others."""

    say: tuple[str, ...]
    weight: int
    having: tuple[tuple[str, ...], ...] = ()
    lacking: tuple[str, ...] = ()
    times: int = 1
    sure: bool = False


@dataclass(frozen=True)
class Symptom:
    id: str
    title: str
    page: str
    question: str
    yes: str
    no: str
    rules: tuple[Rule, ...]
    after: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"/docs/{self.page}/#{self.id.lower()}"


@dataclass(frozen=True)
class Finding:
    """A symptom that a log shows, with the lines that say so; ``because`` are those that decide between twins."""

    symptom: Symptom
    lines: tuple[str, ...]
    because: tuple[str, ...]
    sure: bool

    def to_json(self) -> dict[str, Any]:
        symptom = self.symptom
        return {"id": symptom.id, "title": symptom.title, "url": symptom.url, "lines": list(self.lines)}


@dataclass(frozen=True)
class Patterns:
    """All that the matcher knows, with phrases as :func:`squeeze` leaves them."""

    signals: Mapping[str, tuple[str, ...]]
    symptoms: tuple[Symptom, ...]


def squeeze(text: str) -> str:
    """Leave letters, digits, ``_`` and ``-``, in lower case."""
    return NO_LETTER.sub("", unicodedata.normalize("NFC", text)).lower()


def _unescaped(escape: re.Match) -> str:
    return chr(int(escape[1], 16))


def read_rows(path: Path = ROWS) -> dict[str, Any]:
    """Read the file of rows as it is."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def patterns(rows: Mapping[str, Any]) -> Patterns:
    """Take the patterns from the rows: each phrase in all its languages, squeezed, its parts joined by ``…``."""
    languages = rows["translations"]
    pages = {group: page for page, groups in rows["pages"].items() for group in groups}

    def phrases(said: Sequence[str]) -> tuple[str, ...]:
        every = [each for phrase in said for each in (phrase, *languages.get(phrase, ()))]
        return tuple("…".join(map(squeeze, each.split("…"))) for each in every)

    def rule(row: Mapping[str, Any]) -> Rule:
        having = tuple(tuple(each.split("|")) for each in row.get("with", ()))
        lacking = tuple(row.get("without", ()))
        return Rule(phrases(row["say"]), row["weight"], having, lacking, row.get("times", 1), row.get("sure", False))

    symptoms = tuple(
        Symptom(
            row["id"],
            row["title"],
            pages[row["group"]],
            row["question"],
            row["yes"],
            row["no"],
            tuple(map(rule, row.get("match", ()))),
            tuple(row.get("after", ())),
        )
        for row in rows["symptom"]
    )
    return Patterns({name: phrases(said) for name, said in rows["signals"].items()}, symptoms)


@cache
def known() -> Patterns:
    return patterns(read_rows())


class Log:
    """A log, and where phrases are in it."""

    def __init__(self, text: str) -> None:
        self.lines = COLOUR.sub("", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        squeezed = [squeeze(NOISE.sub(" ", ESCAPED.sub(_unescaped, line))) for line in self.lines]
        self.text = "".join(squeezed)
        self._found: dict[str, list[tuple[int, int]]] = {}
        self._starts, total = [], 0
        for line in squeezed:
            self._starts.append(total)
            total += len(line)

    def find(self, phrase: str) -> list[tuple[int, int]]:
        """Where *phrase* begins and ends, as often as it is there."""
        if phrase not in self._found:
            first, *others = phrase.split("…")
            spans = list(self._positions(first))
            for part in others:
                starts = [start for start, _ in self._positions(part)]
                spans = [
                    (begin, starts[place] + len(part))
                    for begin, end in spans
                    if (place := bisect_right(starts, end - 1)) < len(starts) and starts[place] - end <= LONGEST_GAP
                ]
            self._found[phrase] = spans
        return self._found[phrase]

    def _positions(self, part: str) -> Iterator[tuple[int, int]]:
        at = -1
        for _ in range(MOST_HITS):
            at = self.text.find(part, at + 1)
            if at < 0:
                return
            yield at, at + len(part)

    def line_numbers(self, span: tuple[int, int]) -> range:
        """The lines that *span* reaches over, counted from 0."""
        begin, end = span
        return range(bisect_right(self._starts, begin) - 1, bisect_right(self._starts, end - 1))

    def shown(self, numbers: set[int]) -> tuple[str, ...]:
        """The lines of these numbers, each text once."""
        texts = dict.fromkeys(self.lines[number].strip() for number in sorted(numbers))
        return tuple(text for text in texts if text)[:MOST_LINES]


def diagnose(text: str, patterns: Patterns | None = None) -> list[Finding]:
    """Name the symptoms that a log shows, most likely first; none where it shows none that is known.

    Args:
        text: a traceback or a log, of any length, as it was written.
        patterns: what to look for; by default what ``symptoms.toml`` holds.
    """
    patterns = patterns or known()
    log = Log(text)
    signals = {
        name: spans
        for name, said in patterns.signals.items()
        if (spans := [s for each in said for s in log.find(each)])
    }
    found = [ranked for symptom in patterns.symptoms if (ranked := _look(log, symptom, signals))]
    weights = {finding.symptom.id: weight for weight, _, finding in found}

    def order(each: tuple[int, int, Finding]) -> tuple[int, int]:
        weight, begin, finding = each
        after = weights if "*" in finding.symptom.after else finding.symptom.after
        causes = [weights[cause] for cause in after if weights.get(cause, 0) >= CAUSE and cause != finding.symptom.id]
        return -min([weight, *(cause - 1 for cause in causes)]), begin

    return [finding for _, _, finding in sorted(found, key=order)]


def _look(log: Log, symptom: Symptom, signals: Mapping[str, list]) -> tuple[int, int, Finding] | None:
    """Look for one symptom: the weight of the best rule, where the log first shows it, and the finding."""
    met: list[tuple[Rule, list[tuple[int, int]]]] = []
    for rule in symptom.rules:
        if any(name in signals for name in rule.lacking):
            continue
        if not all(any(name in signals for name in either) for either in rule.having):
            continue
        spans = [span for phrase in rule.say for span in log.find(phrase)]
        if len(spans) >= rule.times:
            met.append((rule, spans))
    if not met:
        return None
    best = max((rule for rule, _ in met), key=lambda rule: rule.weight)
    numbers = {number for _, spans in met for span in spans for number in log.line_numbers(span)}
    deciding = [min(signals[name]) for either in best.having for name in either if name in signals]
    because = {number for span in deciding for number in log.line_numbers(span)} - numbers
    begin = min(begin for _, spans in met for begin, _ in spans)
    return best.weight, begin, Finding(symptom, log.shown(numbers), log.shown(because), best.sure)


def add_to(commands: Any) -> None:
    """Add ``diagnose`` to the commands of ``python -m recipes``."""
    parser = commands.add_parser("diagnose", help="name the symptoms that a log or a traceback shows")
    parser.add_argument("file", nargs="?", type=Path, help="the log; standard input where none is given")
    parser.add_argument("--json", action="store_true", help="print an array, most likely first")
    parser.set_defaults(run=lambda given: run(given.file, given.json))


def run(file: Path | None, as_json: bool = False) -> int:
    """Print what the log shows: 0 for a log that was read, whatever it shows, 2 for one that was not."""
    try:
        text = decoded(file.read_bytes() if file else sys.stdin.buffer.read())
    except OSError as problem:
        print(f"{file}: {problem.strerror}; give the file of a log, or pipe one in", file=sys.stderr)
        return 2
    findings = diagnose(text)
    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], ensure_ascii=False, indent=2))
    elif findings:
        print("\n\n".join(map(_told, findings)))
    else:
        print("Nothing here that is known: no line matches a symptom of this site.")
    return 0


def decoded(data: bytes) -> str:
    """Read a log in whatever encoding it was written: PowerShell redirects in UTF-16, and most else is UTF-8."""
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return data.decode(encoding, errors="replace")


def _told(finding: Finding) -> str:
    symptom = finding.symptom
    lines = [f"{symptom.id}  {symptom.title}", f"     {symptom.url}", *(f"   > {line}" for line in finding.lines)]
    if finding.sure:
        lines += [f"   because: {line}" for line in finding.because]
    elif symptom.question:
        lines += [f"   {symptom.question}", f"     yes: {symptom.yes}", f"     no: {symptom.no}"]
    return "\n".join(lines)
