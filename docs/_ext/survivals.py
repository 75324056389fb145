"""``{survival-grid}``: what a forked child does, by driver: does its parent survive? With the run behind each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import exhibit
from docutils import nodes
from docutils.parsers.rst import directives
from exhibit import element, link
from figures import Figure, Unknown
from runs import absent, cell, colour, listed, marked, run_id, trials, worst
from sphinx.application import Sphinx

from lab.shapes import Arm, Evidence, Trial

Runs = dict[str, dict[str, dict[str, tuple[Arm, str]]]]


class SurvivalGrid(Figure):
    """The arms of several claims: a row for each line of the content, a column for each driver.

    A driver's plain and TLS arms share a cell, which has two lines where they differ. Each cell leads to its runs, in a
    list below that opens column by column. Rows that the evidence lacks, or that the content lacks, fail the build.
    """

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec: ClassVar = {"moment": directives.unchanged_required, "caption": directives.unchanged_required}

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        moment = self.options["moment"]
        runs, columns = gathered(found, moment)
        rows = [line.strip() for line in self.content if line.strip()]
        if odd := sorted(set(rows) ^ set(runs)):
            raise Unknown(f"rows: {', '.join(map(repr, odd))} in the evidence or in the content, not in both")
        head = ["the child …", *columns]
        body = [
            [element("th", row, scope="row"), *(_cell(moment, row, name, runs[row].get(name, {})) for name in columns)]
            for row in rows
        ]
        table = exhibit.table(head, body, self.options.get("caption", moment), ["survivals"])
        lists = (_list(moment, name, [(row, runs[row][name]) for row in rows if name in runs[row]]) for name in columns)
        caption = element("figcaption", self.caption())
        return [
            element("figure", table, caption, classes=["evidence-grid"]),
            element("div", *lists, classes=["runs"]),
        ]


def gathered(found: Iterable[Evidence], moment: str) -> tuple[Runs, list[str]]:
    """The arms of one moment by child, column and socket, each with a claim that rests on it; and the columns."""
    runs: Runs = {}
    columns: list[str] = []
    for evidence in found:
        for arm in evidence.arms:
            if arm.setup.moment == moment:
                journal = arm.setup.database.partition(", journal_mode=")[2]
                column = f"{arm.setup.driver} {journal}".strip()
                socket = "" if journal else "TLS" if arm.setup.tls else "plain"
                runs.setdefault(arm.setup.child, {}).setdefault(column, {}).setdefault(socket, (arm, evidence.claim))
                columns += [column] if column not in columns else []
    return runs, columns


def state(trial: Trial) -> str:
    """What became of the parent in one word; of a parent that lives, whether its child was served."""
    if trial.tally.hung:
        return "hangs"
    word = trial.survival.state if trial.survival else "alive"
    served = trial.facts.get("child") in ("right", "not asked")
    return "lost" if word == "transaction lost" else word if word != "alive" or served else "child fails"


def _said(arm: Arm) -> tuple[str, str]:
    """What a cell says of an arm, and the worst state in it."""
    if arm.not_run:
        return "– not run".replace(" ", "\u00a0"), ""
    seen = Counter(state(trial) for trial in arm.trials)
    bad = worst(seen)
    return marked(bad, seen[bad], len(arm.trials)), bad


def _cell(moment: str, row: str, column: str, arms: dict[str, tuple[Arm, str]]) -> nodes.Node:
    if not arms:
        return absent()
    said = {socket: _said(arm) for socket, (arm, _) in sorted(arms.items(), key=_plain_first)}
    words = list(dict.fromkeys(text for text, _ in said.values()))
    lines = words if len(words) == 1 else [f"{socket} {text}" for socket, (text, _) in said.items()]
    told = [
        f"{socket}: {_told(arm)}".lstrip(": ")
        for socket, (arm, _) in sorted(arms.items(), key=_plain_first)
        if _told(arm)
    ]
    kind = colour(worst(kind for _, kind in said.values()), "not-run")
    return cell(lines, kind, run_id(moment, column, row), " · ".join(told))


def _plain_first(item: tuple[str, Any]) -> bool:
    return item[0] == "TLS"


def _told(arm: Arm) -> str:
    met = exhibit.messages(arm.trials).most_common(1)
    said = [trial.facts["says"] for trial in arm.trials if trial.facts.get("says")]
    return arm.not_run or (met[0][0] if met else f"child: {said[0]}" if said else "")


def _list(moment: str, column: str, rows: Sequence[tuple[str, dict[str, tuple[Arm, str]]]]) -> nodes.Node:
    body = [line for row, arms in rows for line in _lines(moment, column, row, arms)]
    head = ["the child …", "socket", "the parent, word for word", "the child's own questions", "run"]
    label = f"{column}, {moment}: the runs"
    return listed(head, body, label)


def _lines(moment: str, column: str, row: str, arms: dict[str, tuple[Arm, str]]) -> Iterable[list[nodes.Node]]:
    for nth, (socket, (arm, claim)) in enumerate(sorted(arms.items(), key=_plain_first)):
        name = element("th", row, scope="row")
        if nth == 0:
            name["ids"].append(run_id(moment, column, row))
        if steps := {trial.facts.get("steps", "") for trial in arm.trials} - {""}:
            name += element("div", " → ".join(steps.pop().split(", ")), classes=["steps"])
        parent = [element("div", _said(arm)[0])]
        parent += [element("div", element("code", text)) for text in exhibit.messages(arm.trials)]
        if kept := sorted({trial.facts["kept"] for trial in arm.trials if "kept" in trial.facts}):
            parent.append(element("div", f"rows kept: {exhibit.word(kept)} of 2"))
        cells = [
            [socket],
            [arm.not_run] if arm.not_run else parent,
            _childs(arm),
            [f"{trials(len(arm.trials))}, ", link(claim, "evidence", claim)],
        ]
        yield [name, *(element("td", *cell) for cell in cells)]


def _childs(arm: Arm) -> list[nodes.Node]:
    seen = Counter((trial.facts.get("child"), trial.facts.get("own"), trial.facts.get("says")) for trial in arm.trials)
    lines = []
    for (child, own, says), count in seen.items():
        where = (
            "" if child == "not asked" else ", on a connection of its own" if own else ", on its parent's connection"
        )
        lines.append(
            element("div", f"{child}{where if child == 'right' else ''}", f" × {count}" if len(seen) > 1 else "")
        )
        lines += [element("div", element("code", says))] if says else []
    return lines


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("survival-grid", SurvivalGrid)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
