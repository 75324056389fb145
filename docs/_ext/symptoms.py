"""``{symptoms}``, the index of what people see, and ``{traceback}``, the box that names what a log shows.

Both are made from ``recipes/_diagnose/symptoms.toml``, and so is ``symptoms.json`` beside the pages.
"""

from __future__ import annotations

import html
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import exhibit
from claims import ClaimDomain, cite, load, shown, warn
from docutils import nodes
from exhibit import element, link
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

from lab import evidence as lab_evidence
from lab import messages
from recipes import _diagnose

EXPORT = "symptoms.json"
SHOWN = 2
SCRIPTS = ("diagnose.js", "traceback.js")
FIELDS = ("id", "title", "group", "says", "means", "remedies", "twin", "test", "question", "yes", "no")
_GITHUB = re.compile(r"([\w.-]+/[\w.-]+)(?:#(\d+)( \(PR\))?|@([0-9a-f]{7,40}))")


class Symptoms(SphinxDirective):
    """The symptoms of the page that is the argument, in their groups; without one, a list of all, with links."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        for file in (place(self.env), _diagnose.__file__, messages.__file__, *lab_evidence.FOLDER.glob("*.json")):
            self.env.note_dependency(str(file))
        rows = _diagnose.read_rows(place(self.env))
        if self.arguments and self.arguments[0] not in rows["pages"]:
            raise self.error(f"{place(self.env)} has no page {self.arguments[0]!r}")
        chosen = {self.arguments[0]: rows["pages"][self.arguments[0]]} if self.arguments else rows["pages"]
        return [
            self.group(title, [row for row in rows["symptom"] if row["group"] == title], "" if self.arguments else page)
            for page, groups in chosen.items()
            for title in groups
        ]

    def group(self, title: str, rows: Sequence[Mapping[str, Any]], elsewhere: str) -> nodes.section:
        """A heading with its symptoms: whole, or, where they are *elsewhere*, as a list of links."""
        listed = [element("ul", *(self.entry(row, elsewhere) for row in rows), classes=["symptom-list"])]
        section = nodes.section("", nodes.title(title, title), *(listed if elsewhere else map(self.symptom, rows)))
        section["ids"].append(nodes.make_id(title))
        return section

    def entry(self, row: Mapping[str, Any], page: str) -> nodes.Element:
        anchor = row["id"].lower()
        name = nodes.reference("", "", element("span", row["id"], classes=["symptom-id"]), nodes.Text(" "))
        name += self.inline(row["title"])
        name["refuri"] = f"{self.env.app.builder.get_relative_uri(self.env.docname, f'docs/{page}')}#{anchor}"
        entry = element("li", nodes.inline("", "", name))
        entry["ids"] = [anchor, row["id"]]
        return entry

    def symptom(self, row: Mapping[str, Any]) -> nodes.Element:
        anchor = row["id"].lower()
        std = self.env.domains.standard_domain
        std.note_hyperlink_target(anchor, self.env.docname, anchor, row["id"])
        for claim in row["claims"]:
            cite(self, claim)
        title = element("h3", element("span", row["id"], classes=["symptom-id"]), " ", self.inline(row["title"]))
        title += element("a", "#", classes=["headerlink"], href=f"#{anchor}", title="Link to this symptom")
        parts = [title, *wordings(row["says"]), element("p", self.inline(row["means"]))]
        if row["remedies"]:
            pairs = (
                (element("dt", self.inline(stack)), element("dd", self.inline(what))) for stack, what in row["remedies"]
            )
            parts.append(element("dl", *(node for pair in pairs for node in pair), classes=["remedies"]))
        if row["twin"]:
            parts.append(element("p", element("strong", "Its twin. "), self.inline(row["twin"])))
        if row["test"]:
            parts.append(element("p", element("strong", "Tell them apart. "), self.inline(row["test"])))
        parts += self.sources(row)
        section = element("section", *parts, classes=["symptom"])
        section["ids"] = [anchor, row["id"]]
        return section

    def sources(self, row: Mapping[str, Any]) -> Iterator[nodes.Element]:
        """The claims that prove it, the runs that recorded its message, and the threads of those who met it."""
        claims = [shown(claim, load(claim)) for claim in row["claims"]]
        runs = [link(claim, "claim", claim) for claim in recorded().get(row["id"], ()) if claim not in row["claims"]]
        threads = [thread(name) for name in row["threads"]]
        for name, items in (("Proved by ", claims), ("Recorded by ", runs), ("Met in ", threads)):
            if items:
                yield element("p", name, *exhibit.joined(items, ", "), ".", classes=["symptom-sources"])

    def inline(self, text: str) -> nodes.inline:
        return nodes.inline("", "", *self.parse_inline(text, lineno=self.lineno)[0])


class Traceback(SphinxDirective):
    """The box into which one pastes a log; what it finds can be shared as a link to the page that is the argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(place(self.env)))
        self.env.note_dependency(_diagnose.__file__)
        self.env.metadata[self.env.docname]["traceback"] = True
        rows = _diagnose.read_rows(place(self.env))
        patterns = _diagnose.patterns(rows)
        data = json.dumps(asdict(patterns), ensure_ascii=False, separators=(",", ":")).replace("</", "<\\/")
        pages = html.escape(json.dumps({page: self.address(f"docs/{page}") for page in rows["pages"]}))
        box = _BOX.format(page=self.address(self.arguments[0]), pages=pages, data=data)
        return [nodes.raw("", box, format="html")]

    def address(self, docname: str) -> str:
        return self.env.app.builder.get_relative_uri(self.env.docname, docname)


_BOX = """<section class="traceback" data-page="{page}" data-pages="{pages}" aria-label="Paste your traceback">
<noscript>
<p>The box needs a script. The same answers come from <code>python -m recipes diagnose FILE</code>.</p>
</noscript>
<script type="application/json">{data}</script>
</section>
"""


def wordings(said: Sequence[str]) -> Iterator[nodes.Element]:
    """The texts word for word: the first, and the others on demand."""

    def listed(some: Sequence[str]) -> nodes.Element:
        return element("ul", *(element("li", element("code", text)) for text in some), classes=["says"])

    yield listed(said[:SHOWN])
    if others := said[SHOWN:]:
        summary = f"{len(others)} more {'wording' if len(others) == 1 else 'wordings'}"
        yield element("details", element("summary", summary), listed(others))


def place(env: BuildEnvironment) -> Path:
    """Where the rows are."""
    return Path(env.srcdir) / env.config.symptoms_rows


def thread(name: str) -> nodes.inline:
    """Link to an issue, a pull request or a commit by its short name, or to a page by its address."""
    if named := _GITHUB.fullmatch(name):
        repository, number, pull, commit = named.groups()
        place = f"commit/{commit}" if commit else f"{'pull' if pull else 'issues'}/{number}"
        text = f"{repository}@{commit[:9]}" if commit else name.removesuffix(" (PR)")
        address = f"https://github.com/{repository}/{place}"
    else:
        text, address = re.sub(r"^https?://(?:www\.)?([^/]+).*", r"\1", name), name
    return nodes.inline("", "", nodes.reference("", text, refuri=address))


@cache
def recorded() -> Mapping[str, Sequence[str]]:
    """For each symptom the claims whose runs recorded a message of it."""
    found = defaultdict(set)
    for message, claims in messages.recorded().items():
        for finding in _diagnose.diagnose(message)[:1]:
            found[finding.symptom.id] |= claims
    return {symptom: sorted(claims) for symptom, claims in found.items()}


def complaints(rows: Iterable[Mapping[str, Any]], stated: Iterable[str]) -> Iterator[str]:
    """Say what is wrong with the rows, given the claims that the site states."""
    seen: set[str] = set()
    for row in rows:
        name = row.get("id", "a row without an id")
        if missing := [field for field in (*FIELDS, "claims", "threads") if field not in row]:
            yield f"{name} lacks {', '.join(missing)}"
        for key in {row.get("id"), row.get("title")} & seen:
            yield f"{name} says {key!r}, which is there twice"
        seen |= {row.get("id"), row.get("title")}
        for claim in set(row.get("claims", ())) - set(stated):
            yield f"{name} rests on the claim {claim!r}, which no page states"


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    domain: ClaimDomain = env.domains["claim"]
    if any("traceback" in data for data in env.metadata.values()):
        for complaint in complaints(_diagnose.read_rows(place(env))["symptom"], domain.stated):
            line = place(env).read_text().partition(f'"{complaint.split()[0]}"')[0].count("\n") + 1
            warn("symptoms", complaint, f"{place(env)}:{line}")
    return []


def add_scripts(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.Node) -> None:
    if "traceback" in app.env.metadata.get(pagename, {}):
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def export(app: Sphinx, exception: Exception | None) -> None:
    """Write the rows as JSON beside the pages."""
    if exception or app.builder.format != "html" or not place(app.env).exists():
        return
    rows = [
        {**{field: row[field] for field in FIELDS}, "claims": row["claims"], "threads": row["threads"]}
        for row in _diagnose.read_rows(place(app.env))["symptom"]
    ]
    text = json.dumps(rows, ensure_ascii=False, indent=1)
    (Path(app.outdir) / EXPORT).write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("symptoms_rows", "recipes/_diagnose/symptoms.toml", "env", str)
    app.add_directive("symptoms", Symptoms)
    app.add_directive("traceback", Traceback)
    app.connect("env-updated", check)
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", export)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
