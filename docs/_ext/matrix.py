"""``{matrix}``: a claim's arms as columns, and what each trial says of each row; with the run behind each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import exhibit
from docutils import nodes
from docutils.parsers.rst import directives
from exhibit import element, link
from figures import FIELDS, Figure, Unknown, heading
from runs import STATES, absent, cell, colour, listed, marked, run_id, trials, worst
from sphinx.application import Sphinx

from lab.shapes import Arm, Evidence, Trial

# What a trial tells of its rows, by row: no rows of their own.
TOLD = ("sql", "says")
Found = tuple[Arm, str]


class Matrix(Figure):
    """The facts that a trial records by name, as words: a row for each line of the content, a column for each setup.

    ``where`` chooses arms, as in ``framework=WSGI, remedy=none | close``. Arms whose setups have the same title share a
    column; claims may rest on the same run, which is shown once. Each cell leads to its runs, in a list below that
    opens column by column, with the facts ``sql`` and ``says`` of the row. A row that no arm has fails the build, and
    so does a fact that is a known state and has no row, unless ``without`` names it.
    """

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = dict.fromkeys(
        ("columns", "where", "rows", "without", "caption"), directives.unchanged_required
    )

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        fields = self.options.get("columns", "arm").split()
        if odd := set(fields) - set(FIELDS):
            raise Unknown(f"columns: there is no {_quoted(odd)}, only {', '.join(FIELDS)}")
        where = _conditions(self.options.get("where", ""))
        columns = _columns(found, fields, where)
        rows = [line.strip() for line in self.content if line.strip()]
        without = {name.strip() for name in self.options.get("without", "").split(",")}
        _complete(rows, without, [arm for arms in columns.values() for arm, _ in arms])
        self.prefix = f"matrix {self.env.new_serialno('matrix')}"
        corner = self.options.get("rows", "")
        body = [
            [element("th", row, scope="row"), *(self.cell(nth, row, name, columns[name]) for name in columns)]
            for nth, row in enumerate(rows)
        ]
        label = self.options.get("caption", "Matrix")
        table = exhibit.table([corner, *columns], body, label, ["survivals", "matrix"])
        lists = (self.list(corner, name, rows, columns[name]) for name in columns)
        links = exhibit.joined((link(evidence.claim, "claim", evidence.claim) for evidence in found), ", ")
        caption = element("figcaption", self.caption(), element("p", "Evidence: ", *links, ".", classes=["legend"]))
        return [
            element("figure", table, caption, classes=["evidence-grid"]),
            element("div", *lists, classes=["runs", "matrix-runs"]),
        ]

    def id(self, nth: int, row: str, column: str) -> str:
        return run_id(self.prefix, str(nth), column, row)

    def cell(self, nth: int, row: str, column: str, arms: Sequence[Found]) -> nodes.Node:
        ran = _trials(arms, row)
        seen = Counter(trial.facts[row] for trial in ran)
        if not seen and any(arm.not_run for arm, _ in arms):
            return cell(["–\u00a0not\u00a0run"], "cell-not-run", self.id(nth, row, column), _missing(arms))
        if set(seen) <= {"–"}:
            return absent()
        lines = [marked(word, count, len(ran)) for word, count in seen.most_common()]
        told = " · ".join(text for name in reversed(TOLD) for text in _texts(ran, name, row))
        return cell(lines, colour(worst(seen)), self.id(nth, row, column), told)

    def list(self, corner: str, column: str, rows: Sequence[str], arms: Sequence[Found]) -> nodes.Node:
        head = [corner, "outcome", "word for word", "run"]
        body = [line for nth, row in enumerate(rows) for line in self.lines(nth, row, column, arms)]
        return listed(head, body, f"{column}: the runs")

    def lines(self, nth: int, row: str, column: str, arms: Sequence[Found]) -> Iterator[list[nodes.Node]]:
        name = element("th", row, scope="row")
        name["ids"].append(self.id(nth, row, column))
        for arm, claim in arms:
            ran = _trials([(arm, claim)], row)
            seen = Counter(trial.facts[row] for trial in ran)
            if set(seen) <= {"–"} and not arm.not_run:
                continue
            outcome = [element("div", marked(word, count, len(ran))) for word, count in seen.most_common()]
            words = [element("div", element("code", text)) for kind in TOLD for text in _texts(ran, kind, row)]
            cells = [
                outcome or ["not run"],
                [arm.not_run] if arm.not_run else words,
                [f"{trials(len(ran))}, ", link(claim, "evidence", claim)],
            ]
            yield [name, *(element("td", *content) for content in cells)]
            name = element("th", row, scope="row")


def _conditions(text: str) -> list[tuple[str, list[str]]]:
    """``framework=WSGI, remedy=none | close``: conditions that all hold, each with its alternatives."""
    pairs = [item.partition("=")[::2] for item in text.split(",") if item.strip()]
    if odd := {name.strip() for name, _ in pairs} - set(FIELDS):
        raise Unknown(f"where: there is no {_quoted(odd)}, only {', '.join(FIELDS)}")
    return [(name.strip(), [value.strip() for value in values.split("|")]) for name, values in pairs]


def _columns(
    found: Iterable[Evidence], fields: Sequence[str], where: Sequence[tuple[str, list[str]]]
) -> dict[str, list[Found]]:
    """The arms that meet all conditions by column, each with the first claim that rests on it."""
    columns: dict[str, list[Found]] = {}
    for evidence in found:
        for arm in evidence.arms:
            if all(heading(arm, [name]) in values for name, values in where):
                same = columns.setdefault(heading(arm, fields), [])
                if not any(arm.setup == other.setup and arm.trials == other.trials for other, _ in same):
                    same.append((arm, evidence.claim))
    if not columns:
        raise Unknown("where: no arm is left")
    return columns


def _complete(rows: Sequence[str], without: set[str], arms: Sequence[Arm]) -> None:
    facts = [item for arm in arms for trial in arm.trials for item in trial.facts.items()]
    if not facts:
        return
    if odd := sorted(set(rows) - {name for name, _ in facts}):
        raise Unknown(f"rows: no trial has recorded {_quoted(odd)}")
    known = {name for name, value in facts if isinstance(value, str) and value in STATES}
    if missing := sorted(known - set(rows) - without):
        raise Unknown(f"rows: the trials recorded {_quoted(missing)} too, and there is no row for it")


def _trials(arms: Sequence[Found], row: str) -> list[Trial]:
    return [trial for arm, _ in arms for trial in arm.trials if row in trial.facts]


def _texts(ran: Iterable[Trial], kind: str, row: str) -> list[str]:
    """What the trials tell of a row, each text once."""
    told = [trial.facts.get(kind, {}).get(row, ()) for trial in ran]
    lists = ([text] if isinstance(text, str) else text for text in told)
    return list(dict.fromkeys(text for texts in lists for text in texts if text))


def _missing(arms: Sequence[Found]) -> str:
    return "; ".join(dict.fromkeys(arm.not_run for arm, _ in arms if arm.not_run))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(names)))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("matrix", Matrix)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
