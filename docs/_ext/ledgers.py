"""``{ledger}``, the table of all claims, and ``{sources}``, what the source documents say and what the site answers."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import exhibit
from claims import ClaimDomain, load, shown, warn
from docutils import nodes
from exhibit import badge, element, link
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from lab import evidence as lab_evidence
from lab.shapes import Verdict


class ledger(nodes.General, nodes.Element):
    """Stands for the table of all claims until all pages have been read."""


class answer(nodes.General, nodes.Element):
    """Stands for the site's answer to a claim of a source, until all pages have been read."""


class Ledger(SphinxDirective):
    """All claims of the site."""

    def run(self) -> list[nodes.Node]:
        self.env.domains["claim"].data["ledgers"].add(self.env.docname)
        return [ledger()]


class Sources(SphinxDirective):
    """What the source documents say, and what the site answers; of one document with its letter as the argument."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(self.config.claims_sources)
        self.env.domains["claim"].data["ledgers"].add(self.env.docname)
        documents = read_sources(self.env)
        wanted = [each for each in documents if not self.arguments or each["id"] == self.arguments[0]]
        if not wanted:
            raise self.error(f"{self.config.claims_sources} has no document {self.arguments[0]!r}")
        return [node for document in wanted for node in self.document(document)]

    def document(self, document: dict[str, Any]) -> list[nodes.Node]:
        title = nodes.emphasis("", document["title"])
        if "url" in document:
            title = nodes.reference("", "", title, refuri=document["url"])
        rows = [self.row(said) for said in document["claim"]]
        table = exhibit.table(["", "It says", "This site finds"], rows, label=f"Claims of {document['title']}")
        return [nodes.paragraph("", "", title, nodes.Text(f", {document['where']}.")), table]

    def row(self, said: dict[str, str]) -> list[nodes.Node]:
        seed = said["id"]
        self.env.domains["claim"].data["seeds"][seed] = self.env.docname
        name = element("th", seed, scope="row")
        name["ids"].append(f"source-{seed}")
        reply = answer(
            "", *([self.inline(said["answer"])] if "answer" in said else ()), seed=seed, verdict=said.get("verdict", "")
        )
        return [name, element("td", self.inline(said["says"])), element("td", reply)]

    def inline(self, text: str) -> nodes.inline:
        return nodes.inline("", "", *self.parse_inline(text, lineno=self.lineno)[0])


class Fill(SphinxPostTransform):
    """Put the tables where they stand, before references are resolved."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        self.domain: ClaimDomain = self.env.domains["claim"]
        for node in list(self.document.findall(ledger)):
            node.replace_self(self.ledger())
        for node in list(self.document.findall(answer)):
            node.replace_self(self.answer(node))

    def ledger(self) -> list[nodes.Node]:
        known = lab_evidence.experiments()
        rows, kinds = [], []
        for claim, citation in self.domain.stated.items():
            found = load(claim)
            evidence, verdict = found or (None, Verdict("not run"))
            kinds.append(verdict.kind)
            seeds = known[claim].seeds if claim in known else ()
            verdict_cell = [element("div", badge(verdict.kind))]
            if evidence:
                lines = exhibit.not_run_badge(evidence), [exhibit.trials_line(evidence)], [evidence.date]
                verdict_cell += [element("div", *line) for line in lines if line]
            cells = [
                [element("p", citation.statement.deepcopy()), element("p", link(claim, "claim", claim))],
                verdict_cell,
                exhibit.joined((link(seed, "seed", seed) for seed in seeds), ", "),
                [exhibit.versions_line(evidence) if evidence else ""],
            ]
            # On a narrow screen the table scrolls, so that the sentence need not become a column of single words.
            widths = ["min-width: 14em", "", "", "min-width: 11em"]
            rows.append([element("td", *cell, style=width) for cell, width in zip(cells, widths, strict=True)])
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in exhibit.MARKS if kind in kinds)
        total = f"{len(rows)} {'claim' if len(rows) == 1 else 'claims'}"
        summary = nodes.paragraph("", f"{total}: {counts}." if rows else "No claim has been stated yet.")
        head = ["Claim", "Verdict", "Answers", "Versions"]
        return [summary, exhibit.table(head, rows, label="All claims")] if rows else [summary]

    def answer(self, node: answer) -> list[nodes.Node]:
        claims = self.domain.answering(node["seed"])
        if not claims or not node.children:
            return [badge("not run", "not covered yet")]
        found = {claim: load(claim) for claim in claims}
        kinds = {verdict.kind for _, verdict in filter(None, found.values())} or {"not run"}
        verdict = node["verdict"] or (kinds.pop() if len(kinds) == 1 else "partly")
        kind = "depends" if verdict == "partly" else verdict
        sentence = element("p", badge(kind, verdict), " ", *node.children)
        return [sentence, element("p", "By ", *exhibit.joined((shown(*entry) for entry in found.items()), ", "))]


def read_sources(env: BuildEnvironment) -> list[dict[str, Any]]:
    return tomllib.loads(_path(env).read_text())["document"]


def _path(env: BuildEnvironment) -> Path:
    return Path(env.srcdir) / env.config.claims_sources


def _place(env: BuildEnvironment, seed: str) -> str:
    before = _path(env).read_text().partition(f'"{seed}"')[0]
    return f"{_path(env)}:{before.count(chr(10)) + 1}"


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of answers that no claim supports, and of claims that answer what no source says."""
    domain: ClaimDomain = env.domains["claim"]
    if domain.data["seeds"]:
        said = {each["id"]: each for document in read_sources(env) for each in document["claim"]}
        known = lab_evidence.experiments()
        for seed, each in said.items():
            if "answer" in each and not domain.answering(seed):
                warn("unsupported", f"{seed} is answered, but by no claim of the site", _place(env, seed))
        for claim, citation in domain.stated.items():
            for seed in known[claim].seeds if claim in known else ():
                if seed not in said:
                    warn("unknown", f"the claim {claim!r} answers {seed}, which no source says", citation.location)
    return []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("claims_sources", "docs/sources.toml", "env", str)
    app.add_node(ledger)
    app.add_node(answer)
    app.add_directive("ledger", Ledger)
    app.add_directive("sources", Sources)
    app.add_post_transform(Fill)
    app.connect("env-updated", check)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
