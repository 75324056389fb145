"""Claims that carry their evidence: the directive ``{claim}``, and the judgement of all of them.

Every build judges every claim anew, whichever pages it reads, and warns of those that their evidence does not bear
out; with ``-W`` such a build fails.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exhibit
from docutils import nodes
from docutils.parsers.rst import directives
from exhibit import badge, element
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains import Domain
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from sphinx.util.osutil import relative_uri

import lab.judge
import lab.shapes
from lab import evidence as lab_evidence
from lab.shapes import Evidence, Verdict

logger = logging.getLogger(__name__)

_SENTENCE_END = re.compile(r"(?<!e\.g)(?<!i\.e)[.?!](?=\s+[^\sa-z]|\s*$)")


@dataclass(frozen=True)
class Citation:
    """A place that rests on the evidence for a claim; ``expect`` and ``statement`` are set where it is stated."""

    claim: str
    docname: str
    location: str
    expect: str = ""
    statement: nodes.Node | None = None


class ClaimDomain(Domain):
    """Who rests on which evidence, and where links to claims, their evidence and its sources lead."""

    name = "claim"
    label = "Claims"
    initial_data = {"citations": {}, "seeds": {}, "ledgers": set()}  # noqa: RUF012

    @property
    def citations(self) -> list[Citation]:
        return [citation for _, cited in sorted(self.data["citations"].items()) for citation in cited]

    @property
    def stated(self) -> dict[str, Citation]:
        """The claims of the site in the order of its pages; of two with one id, the first."""
        first: dict[str, Citation] = {}
        for citation in self.citations:
            if citation.expect:
                first.setdefault(citation.claim, citation)
        return first

    def answering(self, seed: str) -> list[str]:
        known = lab_evidence.experiments()
        return [claim for claim in self.stated if claim in known and seed in known[claim].seeds]

    def clear_doc(self, docname: str) -> None:
        self.data["citations"].pop(docname, None)
        self.data["seeds"] = {seed: name for seed, name in self.data["seeds"].items() if name != docname}
        self.data["ledgers"].discard(docname)

    def merge_domaindata(self, docnames: Iterable[str], otherdata: dict[str, Any]) -> None:
        docnames = set(docnames)
        self.data["citations"] |= {name: cited for name, cited in otherdata["citations"].items() if name in docnames}
        self.data["seeds"] |= {seed: name for seed, name in otherdata["seeds"].items() if name in docnames}
        self.data["ledgers"] |= otherdata["ledgers"] & docnames

    def resolve_xref(self, env, fromdocname, builder, typ, target, node, contnode):
        if typ in ("evidence", "source"):
            path = f"evidence/{target}.json" if typ == "evidence" else f"evidence/source/{target}"
            uri = relative_uri(builder.get_target_uri(fromdocname), path)
            return nodes.reference("", "", contnode, internal=True, refuri=uri)
        stated = self.stated.get(target)
        docname = self.data["seeds"].get(target) if typ == "seed" else stated and stated.docname
        anchor = f"{'source' if typ == 'seed' else 'claim'}-{target}"
        return make_refnode(builder, fromdocname, docname, anchor, contnode) if docname else contnode

    def resolve_any_xref(self, env, fromdocname, builder, target, node, contnode):
        claim = target.removeprefix("claim-")
        if claim == target or claim not in self.stated:
            return []
        return [("claim:claim", self.resolve_xref(env, fromdocname, builder, "claim", claim, node, contnode))]


class Claim(SphinxDirective):
    """One falsifiable sentence, with its verdict and the evidence."""

    required_arguments = 1
    has_content = True
    option_spec = {  # noqa: RUF012
        "expect": lambda value: directives.choice(value, ("reproduced", "refuted", "depends")),
        "notebook": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        claim = self.arguments[0]
        body = self.parse_content_to_nodes()
        if not body or not isinstance(body[0], nodes.paragraph):
            raise self.error("a claim begins with a sentence")
        cite(self, claim, self.options.get("expect", "reproduced"), first_sentence(body[0]))
        found = on_file(self.env, claim)
        evidence, verdict = found or (None, Verdict("not run"))
        mark = element(
            "a",
            exhibit.MARKS[verdict.kind],
            classes=["claim-mark", f"mark-{verdict.kind.replace(' ', '-')}"],
            href=f"#claim-{claim}",
            aria_label=f"claim {claim}: {verdict.kind}",
        )
        body[-1].extend([nodes.Text("\u00a0"), mark])
        if evidence:
            known = lab_evidence.experiments().get(claim)
            aside = exhibit.aside(evidence, verdict, known.sources if known else (), self.notebook())
        else:
            aside = element("aside", badge("not run", "no evidence"), classes=["margin", "evidence"])
        box = element("div", *body, aside, classes=["claim"])
        box["ids"].append(f"claim-{claim}")
        return [box]

    def notebook(self) -> nodes.Node | None:
        if "notebook" not in self.options:
            return None
        target = posixpath.join("/notebooks", self.options["notebook"])
        return exhibit.reference(
            "notebook", refdomain="std", reftype="doc", reftarget=target, refdoc=self.env.docname, refwarn=True
        )


def cite(place: Any, claim: str, expect: str = "", statement: nodes.Node | None = None) -> None:
    """Note that *place*, a directive or a role, rests on the evidence for *claim*."""
    cited = place.env.domains["claim"].data["citations"].setdefault(place.env.docname, [])
    cited.append(Citation(claim, place.env.docname, place.get_location(), expect, statement))


def load(claim: str) -> tuple[Evidence, Verdict] | None:
    """Read and judge the evidence on file; None where there is none, or none that can be judged."""
    try:
        evidence = lab_evidence.load(claim)
        return evidence, judged(evidence)
    except (OSError, ValueError, LookupError, TypeError):
        return None


def shown(claim: str, found: tuple[Evidence, Verdict] | None) -> nodes.Element:
    """Link to a claim, with the verdict of what was loaded for it and with what of it was not run."""
    marks = [badge(found[1].kind), *exhibit.not_run_badge(found[0])] if found else [badge("not run")]
    return element("span", exhibit.link(claim, "claim", claim), " ", *marks)


def judged(evidence: Evidence) -> Verdict:
    """Judge, and try all criteria: the judge needs no more than one that is not met, and a page shows them all."""
    for arm in evidence.arms:
        exhibit.criteria(arm)
    return lab.judge.judge(evidence)


def on_file(env: BuildEnvironment, claim: str) -> tuple[Evidence, Verdict] | None:
    """Load evidence for the page being read, which from then on follows all that the verdict rests on."""
    known = lab_evidence.experiments().get(claim)
    rests_on = [lab_evidence.FOLDER / f"{claim}.json", lab.judge.__file__, lab.shapes.__file__]
    for file in (*rests_on, *(known.sources if known else ())):
        env.note_dependency(str(file))
    return load(claim)


def first_sentence(paragraph: nodes.Element) -> nodes.Node:
    """Copy the first sentence; without its links, which lead astray on another page."""
    sentence = nodes.inline()
    for child in paragraph.children:
        end = _SENTENCE_END.search(child) if isinstance(child, nodes.Text) else None
        sentence += nodes.Text(child[: end.end()]) if end else child.deepcopy()
        if end:
            break
    for reference in list(sentence.findall(lambda node: isinstance(node, (nodes.reference, addnodes.pending_xref)))):
        reference.replace_self(reference.children)
    for node in sentence.findall():
        node.document = None  # or the whole page would be pickled with it
    return sentence


def trouble(claim: str, expect: str) -> Iterator[tuple[str, str]]:
    """Say what is wrong with the evidence for *claim*: kind and text of each warning."""
    known = lab_evidence.experiments()
    remedy = f"run make evidence CLAIM={claim}"
    if claim not in known:
        yield "unknown", f"no experiment is registered for the claim {claim!r}"
        return
    try:
        evidence = lab_evidence.load(claim)
        verdict = judged(evidence)
    except FileNotFoundError:
        yield "missing", f"there is no evidence for the claim {claim!r}: {remedy}"
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield "failed", f"the evidence for the claim {claim!r} cannot be judged: {error!r}"
        return
    if evidence.digest != known[claim].digest:
        yield "outdated", f"the evidence for the claim {claim!r} is outdated: {remedy}"
    if expect and verdict.kind != expect:
        why = "; ".join(exhibit.complaint(arm) for arm in evidence.arms if arm.name in verdict.on) or "all arms hold"
        yield "failed", f"the claim {claim!r} is stated as {expect}, and its evidence says {verdict.kind}: {why}"


def check(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn of all that is wrong, and have the ledgers written anew."""
    domain: ClaimDomain = env.domains["claim"]
    stated = domain.stated
    # A claim that only figures rest on is judged where the first of them stands.
    places = {citation.claim: citation for citation in reversed(domain.citations)} | stated
    for citation in domain.citations:
        if citation is places[citation.claim]:
            for kind, text in trouble(citation.claim, citation.expect):
                warn(kind, text, citation.location)
        elif citation.expect:
            warn("duplicate", f"the claim {citation.claim!r} is stated twice", citation.location)
    return sorted(domain.data["ledgers"])


def warn(kind: str, text: str, location: str) -> None:
    logger.warning(text, type="claims", subtype=kind, location=location)


def copy_evidence(app: Sphinx, exception: Exception | None) -> None:
    """Put the raw evidence, and what produced it, beside the pages."""
    if exception or app.builder.format != "html":
        return
    known, folder = lab_evidence.experiments(), Path(app.outdir) / "evidence"
    for claim in {citation.claim for citation in app.env.domains["claim"].citations}:
        _copy(lab_evidence.FOLDER / f"{claim}.json", folder / f"{claim}.json")
        for source in known[claim].sources if claim in known else ():
            _copy(source, folder / "source" / exhibit.relative(source))


def _copy(source: Path, target: Path) -> None:
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_domain(ClaimDomain)
    app.add_node(exhibit.tag, html=(exhibit.visit_tag, exhibit.depart_tag))
    app.add_directive("claim", Claim)
    app.connect("env-updated", check)
    app.connect("build-finished", copy_evidence)
    app.setup_extension("figures")
    app.setup_extension("ledgers")
    app.setup_extension("survivals")
    app.setup_extension("matrix")
    app.setup_extension("plots")
    app.setup_extension("symptoms")
    app.setup_extension("advice")
    app.setup_extension("topics")
    # Pages drawn by other code than this are drawn anew.
    drawn_by = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))
    return {
        "version": "1",
        "env_version": zlib.crc32(drawn_by),
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
