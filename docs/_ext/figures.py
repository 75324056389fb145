"""Numbers and pictures out of evidence: ``{evidence-grid}``, ``{swimlane}`` and the role ``{fact}``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import exhibit
from claims import cite, on_file
from docutils import nodes
from docutils.parsers.rst import directives
from exhibit import element, link
from runs import STATES
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from lab import swimlane
from lab.shapes import Arm, Evidence, Setup, Trial

logger = logging.getLogger(__name__)

ROLES = ("hazard", "control", "remedy")
FIELDS = (*(field.name for field in fields(Setup)), "arm", "role")


class Unknown(LookupError):
    """A page asks evidence for something that it does not hold."""


class Figure(SphinxDirective):
    """Something drawn from evidence. Evidence that is not there is told by the build; what it lacks, here."""

    def run(self) -> list[nodes.Node]:
        found = [evidence_for(self, claim) for claim in self.arguments[0].split()]
        if None in found:
            return []
        try:
            return self.draw(found)
        except Unknown as error:
            complain(self, error)
            return []

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        raise NotImplementedError

    def caption(self) -> nodes.inline:
        return nodes.inline("", "", *self.parse_inline(self.options.get("caption", ""), lineno=self.lineno)[0])


class EvidenceGrid(Figure):
    """What was counted, as a table by setup; several claims' arms are merged.

    ``head`` is the title of the rows, where the fields that they are made of do not say it.
    """

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = dict.fromkeys(
        ("rows", "head", "columns", "cell", "roles", "caption"), directives.unchanged_required
    )

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        down = self.words("rows", "arm", FIELDS)
        across = self.words("columns", "", FIELDS)
        roles = self.words("roles", " ".join(ROLES), ROLES)
        shown = [name.strip() for name in self.options.get("cell", "tally").split(",")]
        chosen: list[Arm] = []
        for arm in (arm for evidence in found for arm in evidence.arms if arm.role in roles):
            # Claims may rest on the same runs, which count once.
            if not any(arm.setup == other.setup and arm.trials == other.trials for other in chosen):
                chosen.append(arm)
        table: dict[str, dict[str, list[Arm]]] = {}
        for arm in chosen:
            table.setdefault(heading(arm, down), {}).setdefault(heading(arm, across), []).append(arm)
        columns = list(dict.fromkeys(heading(arm, across) for arm in chosen))
        # Where nothing else makes columns, what is shown does.
        apart = [(column, [name]) for column in columns for name in shown]
        cells = [(column, shown) for column in columns] if across else apart
        rows = [
            [element("th", name, scope="row"), *(_cell(row.get(column, []), names) for column, names in cells)]
            for name, row in table.items()
        ]
        legend = "; ".join(_legend(name) for name in shown)
        corner = self.options.get("head", ", ".join(map(exhibit.field_words, down)))
        head = [corner, *(columns if across else map(_legend, shown))]
        label = self.options.get("caption", "Evidence")
        links = exhibit.joined((link(evidence.claim, "claim", evidence.claim) for evidence in found), ", ")
        told = f"In each cell: {legend}. " if across else ""
        under = element("p", f"{told}Evidence: ", *links, ".", classes=["legend"])
        caption = element("figcaption", self.caption(), under)
        return [element("figure", exhibit.table(head, rows, label), caption, classes=["evidence-grid"])]

    def words(self, option: str, default: str, known: Sequence[str]) -> list[str]:
        given = self.options.get(option, default).split()
        for name in given:
            if name not in known:
                raise Unknown(f"{option}: there is no {name!r}, only {', '.join(known)}")
        return given


class SwimLane(Figure):
    """The trace of one trial, as a picture and in words."""

    required_arguments = 1
    option_spec: ClassVar = {
        "arm": directives.unchanged_required,
        "trial": directives.nonnegative_int,
        "caption": directives.unchanged_required,
    }

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        (evidence,) = found
        arm, number = self.arm(evidence), self.options.get("trial", 0)
        if number >= len(arm.trials):
            raise Unknown(f"{arm.name!r} of {evidence.claim!r} has no trial {number}")
        events = recorded(arm.trials[number : number + 1], "events", arm.name)[0]
        picture = nodes.raw("", swimlane.render(events), format="html")
        box = element("div", picture, style="overflow-x: auto", tabindex="0", role="group", aria_label="Swim lane")
        told = element("ol", *(element("li", sentence) for sentence in swimlane.sentences(events)))
        words = element("details", element("summary", "The same in words"), told)
        source = element("span", "Evidence: ", link(evidence.claim, "claim", evidence.claim), classes=["legend"])
        caption = element("figcaption", self.caption(), " ", source)
        return [element("figure", box, caption, words, classes=["swimlane"])]

    def arm(self, evidence: Evidence) -> Arm:
        if "arm" in self.options:
            return one_arm(evidence, self.options["arm"])
        for arm in evidence.arms:
            if arm.trials and "events" in arm.trials[0].facts:
                return arm
        raise Unknown(f"no arm of {evidence.claim!r} recorded events")


class Fact(SphinxRole):
    """A number out of evidence: ``claim/arm/field``, with ``| format`` if need be."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        path, _, form = (part.strip() for part in self.text.partition("|"))
        claim, _, rest = path.partition("/")
        arm, _, field = rest.rpartition("/")
        evidence = evidence_for(self, claim)
        if evidence is None:
            return [nodes.inline("", "?", classes=["fact"])], []
        try:
            value = fact(evidence, arm, field)
            text = format(value, form) if form else exhibit.word(value)
        except (Unknown, ValueError, TypeError) as error:
            complain(self, Unknown(f"{path}: {error.args[0]}"))
            text = "?"
        return [element("span", text, classes=["fact"], title=f"from the evidence: {path}")], []


# Over the trials of an arm, or of all arms.
AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "median": statistics.median,
    "count": lambda seen: sum(map(bool, seen)),
}


def fact(evidence: Evidence, arm: str, field: str) -> Any:
    """Look up one value; a number is the median over the trials, unless an aggregate is asked for."""
    arms = [each for each in evidence.arms if not each.not_run] if arm == "*" else [one_arm(evidence, arm)]
    trials = [trial for each in arms for trial in each.trials]
    aggregate, colon, name = field.rpartition(":")
    if field == "count:":
        return len(trials)
    if aggregate not in AGGREGATES and colon:
        raise Unknown(f"there is no {aggregate!r}, only {', '.join(AGGREGATES)}")
    seen = recorded(trials, name, arm)
    if not seen:
        raise Unknown(f"no trial of {arm!r} has a {name!r}")
    if colon:
        return AGGREGATES[aggregate](seen)
    if all(exhibit.is_number(value) for value in seen):
        return statistics.median(seen)
    if any(value != seen[0] for value in seen):
        raise Unknown(f"the trials of {arm!r} differ in {name!r}: {exhibit.sum_up(seen)}")
    return seen[0]


def one_arm(evidence: Evidence, name: str) -> Arm:
    """The arm of that name.

    Raises:
        Unknown: there is none, or it was not run.
    """
    arm = next((arm for arm in evidence.arms if arm.name == name), None)
    if arm is None:
        raise Unknown(f"{evidence.claim!r} has no arm {name!r}, only {', '.join(arm.name for arm in evidence.arms)}")
    if arm.not_run:
        raise Unknown(f"the arm {name!r} was not run: {arm.not_run}")
    return arm


def recorded(trials: Sequence[Trial], name: str, where: str) -> list[Any]:
    try:
        return exhibit.values(trials, name)
    except KeyError:
        raise Unknown(f"a trial of {where!r} recorded no {name!r}") from None


def heading(arm: Arm, names: Sequence[str]) -> str:
    """Name a row or a column by what the setup says under *names*."""
    own = {"arm": arm.name, "role": arm.role}
    words = (own[name] if name in own else _setting(name, getattr(arm.setup, name)) for name in names)
    return ", ".join(filter(None, words)) or ("plain" if list(names) == ["tls"] else f"no {' or '.join(names)}")


def evidence_for(place: Any, claim: str) -> Evidence | None:
    cite(place, claim)
    found = on_file(place.env, claim)
    return found[0] if found else None


def complain(place: Any, error: Unknown) -> None:
    logger.warning("%s", error.args[0], type="claims", subtype="unknown", location=place.get_location())
    # Else the next build would not read the page, and pass.
    place.env.note_reread()


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name.upper() if value else ""
    if isinstance(value, int):
        return f"{value} {name if value > 1 else name.removesuffix('s')}" if value else ""
    return value


def _legend(name: str) -> str:
    known = {
        "tally": "bad answers / requests (w wrong, e error, h hung)",
        "parent": "the parent's connection afterwards",
        "first_bad": "first bad request, median (range)",
    }
    return known.get(name, exhibit.field_words(name))


def _cell(arms: Sequence[Arm], shown: Sequence[str]) -> nodes.Node:
    ran = [arm for arm in arms if not arm.not_run]
    if not ran:
        kind = ["cell-not-run"] if arms else []
        return element("td", "not run" if arms else "–", classes=kind, title=arms[0].not_run if arms else "")
    trials = [trial for arm in ran for trial in arm.trials]
    # Counts and states speak for themselves; beside them, a bare "1" or "yes" would not.
    plain = ("tally", "parent") if len(shown) > 1 else shown
    labels = ["" if name in plain else f"{exhibit.field_words(name)}: " for name in shown]
    lines = [
        element("div", label + _line(trials, name, ran[0].name)) for label, name in zip(labels, shown, strict=True)
    ]
    top = exhibit.messages(trials).most_common(1)
    return element("td", *lines, classes=_colour(trials, shown), title=top[0][0] if top else "")


def _line(trials: Sequence[Trial], name: str, where: str) -> str:
    if name != "tally":
        recorded(trials, name, where)
        return exhibit.summary(trials, name)
    totals = {kind: sum(getattr(trial.tally, kind) for trial in trials) for kind in exhibit.COUNTS}
    total = sum(totals.values())
    counts = [f"{total - totals['right']} / {total}"]
    counts += [f"{totals[kind]} {kind[0]}" for kind in exhibit.COUNTS[1:] if totals[kind]]
    return ", ".join(count.replace(" ", "\u00a0") for count in counts)


def _colour(trials: Sequence[Trial], shown: Sequence[str]) -> list[str]:
    # The worst of what the cell shows; what was merely measured has no colour.
    states = {"alive": "right", "dead": "error", "transaction lost": "wrong"}
    kinds = {kind for kind in exhibit.COUNTS for trial in trials if "tally" in shown and getattr(trial.tally, kind)}
    kinds |= {states[trial.survival.state] for trial in trials if "parent" in shown and trial.survival}
    words = [trial.facts.get(name) for name in shown for trial in trials]
    kinds |= {STATES[word][1] for word in words if isinstance(word, str) and word in STATES}
    return [f"cell-{kind}" for kind in ("wrong", "hung", "error", "half", "right") if kind in kinds][:1]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("evidence-grid", EvidenceGrid)
    app.add_directive("swimlane", SwimLane)
    app.add_role("fact", Fact())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
