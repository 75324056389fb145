"""``{advice}``: what people are told, whether it is right, and by which claims; ``{advice}`` alone sums it up."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exhibit
from claims import ClaimDomain, load, on_file, warn
from docutils import nodes
from exhibit import badge, element, link
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from lab.shapes import Evidence

# A verdict on advice, how it is drawn, and the name under which its pieces are counted.
VERDICTS = {
    "wrong": ("refuted", "wrong"),
    "depends": ("depends", "depend on something"),
    "right": ("reproduced", "right"),
    "not run": ("not run", "not run here"),
}
WORDS = ("id", "title", "told", "by", "verdict", "found", "instead")
ROLES = ("hazard", "control", "remedy")


class grounds(nodes.General, nodes.Element):
    """Stands for the claims that settle a piece of advice, until all pages have been read."""


class Advice(SphinxDirective):
    """The pieces of one section, or without an argument how many are right, and which."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(_path(self.env)))
        try:
            sections = read(self.env)
        except (OSError, ValueError, KeyError) as problem:
            raise self.error(f"{self.config.advice_file} cannot be read: {problem}") from None
        if not self.arguments:
            return self.summary([row for rows in sections.values() for row in rows])
        section = self.arguments[0]
        if section not in sections:
            raise self.error(f"{self.config.advice_file} has no section {section!r}, only {', '.join(sections)}")
        shown = self.env.metadata[self.env.docname].setdefault("advice", [])
        shown.append(section)
        # Written anew in every build: verdicts and counts are those of the evidence of that day.
        self.env.domains["claim"].data["ledgers"].add(self.env.docname)
        return [self.piece(row) for row in sections[section]]

    def piece(self, row: dict[str, Any]) -> nodes.Node:
        number = row["id"]
        head = element("h3", element("a", number, href=f"#{number.lower()}"), " ", self.inline(row["title"]))
        by = element("p", element("small", self.inline(row["by"])))
        told = element("blockquote", element("p", self.inline(row["told"])), by)
        found = element("p", _badge(row["verdict"]), " ", self.inline(row["found"]))
        instead = element("p", element("strong", "Instead:"), " ", self.inline(row["instead"]))
        claims = grounds("", claims=list(row.get("claims", ())))
        for claim in claims["claims"]:
            on_file(self.env, claim)
        box = element("div", head, told, found, instead, claims, classes=["advice"])
        box["ids"].append(number.lower())
        box["names"].append(number.lower())
        self.state.document.note_explicit_target(box)
        # Reachable, too, and not where links lead.
        box["ids"].append(number)
        return box

    def summary(self, rows: list[dict[str, Any]]) -> list[nodes.Node]:
        """How many pieces there are of each verdict, and links to them that open on demand."""
        counts = Counter(row["verdict"] for row in rows)
        told = ", ".join(f"{counts[verdict]} {words}" for verdict, (_, words) in VERDICTS.items() if counts[verdict])
        lists = []
        for verdict in (verdict for verdict in VERDICTS if counts[verdict]):
            links = [element("li", self.to(row)) for row in rows if row["verdict"] == verdict]
            line = element("summary", _badge(verdict), f" {len(links)}")
            lists.append(element("details", line, element("ul", *links)))
        index = element("div", *lists, style="margin-bottom: 1.15rem")
        return [nodes.paragraph("", f"{len(rows)} pieces of advice: {told}."), index]

    def to(self, row: dict[str, Any]) -> nodes.Node:
        return element("a", f"{row['id']} ", self.inline(row["title"]), href=f"#{row['id'].lower()}")

    def inline(self, text: str) -> nodes.inline:
        return nodes.inline("", "", *self.parse_inline(text, lineno=self.lineno)[0])


def _badge(verdict: str) -> nodes.Node:
    return badge(VERDICTS.get(verdict, ("not run", ""))[0], verdict)


class Ground(SphinxPostTransform):
    """Put the claims where they stand, with what was counted, before references are resolved."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        for node in list(self.document.findall(grounds)):
            items = [element("li", element("small", *_ground(claim))) for claim in node["claims"]]
            node.replace_self([element("ul", *items)] if items else [])


def _ground(claim: str) -> list[nodes.Node]:
    name = link(claim, "claim", claim)
    found = load(claim)
    if not found:
        return [name, nodes.Text(" "), badge("not run", "no evidence")]
    evidence, verdict = found
    return [name, nodes.Text(" "), badge(verdict.kind), *exhibit.not_run_badge(evidence), nodes.Text(counts(evidence))]


def counts(evidence: Evidence) -> str:
    """The trials, and what was counted in them, role by role."""
    parts = []
    for role in ROLES:
        trials = [trial for arm in evidence.arms if arm.role == role for trial in arm.trials]
        seen = exhibit.counts_line(trials)
        parts += [f"{role} {len(trials)}{f' ({seen})' if seen else ''}"] if trials else []
    return f" {exhibit.trials_line(evidence)}: {', '.join(parts)}"


def read(env: BuildEnvironment) -> dict[str, list[dict[str, Any]]]:
    """All pieces by section.

    Raises:
        OSError: there is no such file.
        ValueError: it is no TOML, or a piece lacks a word; the message says which.
        KeyError: a section has no id.
    """
    sections = {each["id"]: each.get("advice", []) for each in tomllib.loads(_path(env).read_text())["section"]}
    for row in (row for rows in sections.values() for row in rows):
        if lacking := [word for word in WORDS if not row.get(word)]:
            raise ValueError(f"{row.get('id', 'a piece without an id')} has no {', '.join(lacking)}")
    return sections


def _path(env: BuildEnvironment) -> Path:
    return Path(env.srcdir) / env.config.advice_file


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of pieces that are left out, and of verdicts that no claim bears out."""
    shown = [name for each in env.metadata.values() for name in each.get("advice", ())]
    if not shown:
        return []
    try:
        sections = read(env)
    except (OSError, ValueError, KeyError):
        return []  # the directive has said so
    text = _path(env).read_text()

    def place(number: str) -> str:
        before = text.partition(f'"{number}"')[0]
        return f"{_path(env)}:{before.count(chr(10)) + 1}"

    for section in sections:
        if shown.count(section) != 1:
            warn("advice", f"the section {section!r} is on {shown.count(section)} pages, not one", place(section))
    rows = [row for section in sections.values() for row in section]
    numbers = [row["id"] for row in rows]
    wanted = [f"C{number:02d}" for number in range(1, app.config.advice_count + 1)]
    for number in wanted:
        if numbers.count(number) != 1:
            warn("advice", f"{number} is there {numbers.count(number)} times, not once", place(number))
    for number in dict.fromkeys(numbers):
        if number not in wanted:
            warn("advice", f"{number} is none of {wanted[0]} to {wanted[-1]}", place(number))
    for row in rows:
        for problem in trouble(row, env.domains["claim"]):
            warn("advice", f"{row['id']} {problem}", place(row["id"]))
    return []


def trouble(row: dict[str, Any], domain: ClaimDomain) -> Iterator[str]:
    """Say what is wrong with the verdict of *row*, given the claims that the site states."""
    verdict, claims = row["verdict"], row.get("claims", ())
    if verdict not in VERDICTS:
        yield f"has the verdict {verdict!r}, not one of {', '.join(VERDICTS)}"
    if verdict != "not run" and not claims:
        yield f"is {verdict!r}, and no claim says so"
    kinds = []
    for claim in claims:
        found = load(claim)
        if claim not in domain.stated:
            yield f"rests on the claim {claim!r}, which no page states"
        elif not found:
            yield f"rests on the claim {claim!r}, which has no evidence"
        else:
            kinds.append(found[1].kind)
            if kinds[-1] == "not run" and verdict != "not run":
                yield f"is {verdict!r}, and the claim {claim!r} was not run"
            elif kinds[-1] != "reproduced" and verdict == "right":
                yield f"is 'right', and its claim {claim!r} is {kinds[-1]!r}"
    if verdict == "not run" and set(kinds) - {"not run"}:
        yield f"is 'not run', and its claims were: {', '.join(claims)}"


def anchors(app: Sphinx, doctree: nodes.document) -> None:
    """Have ``advice.md#c01`` resolve from other pages, as it does for a heading."""
    slugs = {name: (0, name, name) for box in doctree.findall(exhibit.tag) if _is(box) for name in box["ids"]}
    if slugs:
        metadata = app.env.metadata[app.env.docname]
        metadata["myst_slugs"] = {**metadata.get("myst_slugs", {}), **slugs}


def _is(box: nodes.Element) -> bool:
    return "advice" in box["classes"]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("advice_file", "docs/advice.toml", "env", str)
    app.add_config_value("advice_count", 50, "env", int)
    app.add_node(grounds)
    app.add_directive("advice", Advice)
    app.add_post_transform(Ground)
    app.connect("doctree-read", anchors)
    app.connect("env-updated", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
