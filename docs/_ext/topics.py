"""``{topics}``, the topics of the field and where each has its place here, and ``{others}``, what other sources say.

Both come from files of rows. The build warns of a row that neither rests on a claim nor says why not.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import exhibit
from claims import ClaimDomain, load, shown, warn
from docutils import nodes
from exhibit import badge, element
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

COUNT = 68
STANCES = ("confirms", "corrects", "adds")
TOPIC = {"number", "heading", "topic", "page", "claims", "not_covered"}
SAID = {"who", "url", "says", "stance", "answer", "claims"}
Row = dict[str, Any]


class cited(nodes.General, nodes.Inline, nodes.Element):
    """Stands for links to claims, with their verdicts, until all pages have been read."""


class Rows(SphinxDirective):
    """Something drawn from a file of rows, which is drawn anew whenever the file or a verdict changes."""

    optional_arguments = 1
    setting = ""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(_path(self.env, self.setting)))
        self.env.domains["claim"].data["ledgers"].add(self.env.docname)
        try:
            return self.draw(read(self.env, self.setting))
        except KeyError as error:
            raise self.error(f"{_path(self.env, self.setting)}: no {error} in a row") from None
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise self.error(f"{_path(self.env, self.setting)}: {error}") from None

    def draw(self, file: Row) -> list[nodes.Node]:
        raise NotImplementedError

    def inline(self, text: str) -> nodes.inline:
        return nodes.inline("", "", *self.parse_inline(text, lineno=self.lineno)[0])


class Topics(Rows):
    """The topics under one heading, whose letter is the argument; without it, how many are covered."""

    setting = "claims_topics"

    def draw(self, file: Row) -> list[nodes.Node]:
        if not self.arguments:
            return [nodes.paragraph("", summary(file["topic"]))]
        letter = self.arguments[0]
        rows = [self.row(row) for row in file["topic"] if row["heading"] == letter]
        if not rows:
            raise self.error(f"{_path(self.env, self.setting)} has no topic under the heading {letter!r}")
        return [exhibit.table(["", "Topic", "Place", "Claims"], rows, f"Topics under {letter}")]

    def row(self, row: Row) -> list[nodes.Node]:
        number = element("th", str(row["number"]), scope="row")
        number["ids"].append(f"topic-{row['number']}")
        page, _, anchor = row.get("page", "").partition("#")
        places = [page, f"{page}#{anchor}" if anchor else ""]
        links = exhibit.joined((self.inline(f"[]({place})") for place in places if place), ": ")
        rests = [element("div", cited(claims=[claim])) for claim in row.get("claims", ())]
        lacks = [element("p", self.inline(row["not_covered"]))] if row.get("not_covered") else []
        # On a narrow screen the table scrolls, so that no column need be one of single words.
        cells = [("13em", [self.inline(row["topic"])]), ("9em", links), ("19em", rests + lacks)]
        return [number, *(element("td", *content, style=f"min-width: {width}") for width, content in cells)]


class Others(Rows):
    """What other sources say of one topic, whose id is the argument, and what this site has to say of it."""

    required_arguments, optional_arguments = 1, 0
    setting = "claims_others"

    def draw(self, file: Row) -> list[nodes.Node]:
        said = [row for topic in file["topic"] if topic["id"] == self.arguments[0] for row in topic["source"]]
        if not said:
            raise self.error(f"{_path(self.env, self.setting)} has no topic {self.arguments[0]!r}")
        return [nodes.bullet_list("", *(nodes.list_item("", *self.item(row)) for row in said))]

    def item(self, row: Row) -> Iterator[nodes.Node]:
        who = nodes.strong("", "", *self.inline(row["who"]).children)
        who = nodes.reference("", "", who, refuri=row["url"]) if row.get("url") else who
        yield nodes.paragraph("", "", who, nodes.Text(" "), self.inline(row["says"]))
        stance = badge(row["stance"], f"This site {row['stance']}")
        rests = cited(claims=row.get("claims", []))
        yield nodes.paragraph("", "", stance, nodes.Text(" "), self.inline(row["answer"]), nodes.Text(" By "), rests)


class Fill(SphinxPostTransform):
    """Put the links in, before references are resolved."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(cited)):
            node.replace_self(exhibit.joined((shown(claim, load(claim)) for claim in node["claims"]), " "))


def summary(rows: Sequence[Row]) -> str:
    """Count the topics that rest on claims, those of which a part is missing, and those that are not covered."""
    kinds = Counter((bool(row.get("claims")), bool(row.get("not_covered"))) for row in rows)
    whole, part, none = kinds[True, False], kinds[True, True], kinds[False, True]
    return (
        f"Of {len(rows)} topics {whole + part} rest on claims of this site, {part} of them with a part missing;"
        f" {none} have no claim."
    )


def read(env: BuildEnvironment, setting: str) -> Row:
    """Read the file that *setting* names.

    Raises:
        OSError: it is not there.
        tomllib.TOMLDecodeError: it is not TOML.
    """
    return tomllib.loads(_path(env, setting).read_text())


def _path(env: BuildEnvironment, setting: str) -> Path:
    return Path(env.srcdir) / env.config[setting]


def trouble_of_topics(rows: Iterable[Row], stated: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Say what is wrong with the topics: which row of the file, from 0, and the kind and text of each warning."""
    rows = list(rows)
    numbers = Counter(row.get("number") for row in rows)
    for nth, row in enumerate(rows):
        name = f"the topic {row.get('number', f'in row {nth + 1}')}"
        if missing := {"number", "heading", "topic"} - set(row):
            yield nth, "unknown", f"{name} lacks {_listed(missing)}"
        if numbers[row.get("number")] > 1:
            yield nth, "duplicate", f"{name} is there {numbers[row.get('number')]} times"
        if not row.get("claims") and not row.get("not_covered"):
            yield nth, "unsupported", f"{name} has neither claims nor not_covered, which says why"
        yield from ((nth, kind, f"{name} {text}") for kind, text in _odd(row, TOPIC, stated))
    for number in sorted(set(range(1, COUNT + 1)) - set(numbers)):
        yield 0, "missing", f"there is no topic {number}"


def trouble_of_others(rows: Iterable[Row], stated: Mapping[str, Any]) -> Iterator[tuple[int, str, str]]:
    """Say what is wrong with what others say, in the same way."""
    for nth, row in enumerate(rows):
        name = f"what {row.get('who', f'row {nth + 1}')} says"
        if missing := {"who", "says", "answer"} - set(row):
            yield nth, "unknown", f"{name} lacks {_listed(missing)}"
        if row.get("stance") not in STANCES:
            yield nth, "unknown", f"{name} has the stance {row.get('stance')!r}, which is none of {', '.join(STANCES)}"
        if not row.get("claims"):
            yield nth, "unsupported", f"{name} is answered by no claim"
        yield from ((nth, kind, f"{name} {text}") for kind, text in _odd(row, SAID, stated))


def _odd(row: Row, fields: set[str], stated: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if unknown := set(row) - fields:
        yield "unknown", f"has {_listed(unknown)}, which nothing reads"
    for claim in row.get("claims", ()):
        if claim not in stated:
            yield "unknown", f"rests on the claim {claim!r}, which no page states"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of rows that rest on nothing, of numbers that are missing, and of claims that no page states."""
    domain: ClaimDomain = env.domains["claim"]
    for setting, header, trouble in (
        ("claims_topics", "[[topic]]", trouble_of_topics),
        ("claims_others", "[[topic.source]]", trouble_of_others),
    ):
        path = _path(env, setting)
        try:
            rows = read(env, setting).get("topic", [])
        except (OSError, tomllib.TOMLDecodeError):
            continue  # where a page draws it, the page says so
        if header == "[[topic.source]]":
            rows = [row for topic in rows for row in topic.get("source", [])]
        lines = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line.strip() == header]
        for nth, kind, text in trouble(rows, domain.stated):
            warn(kind, text, f"{path}:{lines[nth] if lines else 1}")
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("claims_topics", "docs/topics.toml", "env", str)
    app.add_config_value("claims_others", "docs/other-sources.toml", "env", str)
    app.add_node(cited)
    app.add_directive("topics", Topics)
    app.add_directive("others", Others)
    app.add_post_transform(Fill)
    app.connect("env-updated", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
