"""How evidence reads on a page: the markup, and the words for arms, checks, counts and versions."""

from __future__ import annotations

import operator
import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from docutils import nodes
from sphinx import addnodes

from lab import evidence as lab
from lab.judge import holds
from lab.shapes import Arm, Check, Evidence, Setup, Trial, Verdict

T = TypeVar("T", bound=Hashable)
MARKS = {"reproduced": "✓", "refuted": "✗", "depends": "±", "not run": "–"}
# From here on, what is alike stands together, and what is long opens on demand.
MANY = 3
MANY_ARMS = 10
COUNTS = ("right", "wrong", "error", "hung")
_OPS = {"==": "", "!=": "not ", ">=": "at least ", "<=": "at most ", ">": "more than ", "<": "less than "}
_FIELDS = {
    "bad": "bad answers",
    "total": "requests",
    "right": "right answers",
    "wrong": "wrong answers",
    "error": "errors",
    "hung": "hung requests",
    "first_bad": "first bad request",
    "parent": "the parent's connection",
    "parent_asked": "the parent's question",
    "error_message": "the parent's error",
    "shared": "on the parent's connection",
    "kept": "rows kept",
    "child_on": "the child",
    "child_sends": "the child sends",
    "server": "who forks",
    "workers": "processes",
    "cpu_us": "CPU time (µs)",
    "more_us": "more than without (µs)",
    "orm_stale": "old objects",
    "raw_stale": "old rows",
    "moment": "at the fork",
    "child": "the child",
    "at_fork_handlers": "os.register_at_fork",
    "register_after_fork": "multiprocessing.util.register_after_fork",
    "in_map": "in the identity map",
    "servers_default": "the server's default",
    "given_up": "the connection is given up",
}


class tag(nodes.General, nodes.Element):
    """An HTML element that docutils has no node for."""


def element(name: str, *content: nodes.Node | str, classes: Sequence[str] = (), **attributes: str) -> tag:
    """Make ``<name>``; an underscore in an attribute's name stands for a hyphen."""
    children = (nodes.Text(item) if isinstance(item, str) else item for item in content)
    html = {key.replace("_", "-"): value for key, value in attributes.items() if value}
    return tag("", *children, name=name, html=html, classes=list(classes))


def visit_tag(translator: Any, node: tag) -> None:
    translator.body.append(translator.starttag(node, node["name"], "", **node["html"]))


def depart_tag(translator: Any, node: tag) -> None:
    translator.body.append(f"</{node['name']}>\n" if node["name"] not in ("a", "span") else f"</{node['name']}>")


def badge(kind: str, text: str = "") -> tag:
    return element("span", text or kind, classes=["verdict", f"verdict-{kind.replace(' ', '-')}"])


def link(text: str, kind: str, target: str) -> nodes.inline:
    """Link to a ``claim``, a ``seed``, raw ``evidence`` or a ``source`` file; the claim domain knows where they are."""
    return reference(text, refdomain="claim", reftype=kind, reftarget=target)


def reference(text: str, **target: Any) -> nodes.inline:
    """Leave a reference for Sphinx to resolve, in a text element, as its writer demands."""
    return nodes.inline("", "", addnodes.pending_xref("", nodes.inline("", text), refexplicit=True, **target))


def joined(items: Iterable[nodes.Node], separator: str) -> list[nodes.Node]:
    return [node for item in items for node in (nodes.Text(separator), item)][1:]


def table(head: Sequence[str], rows: Iterable[Sequence[nodes.Node]], label: str, classes: Sequence[str] = ()) -> tag:
    """Make a table of cells that are ``td`` or ``th`` elements, in a box that scrolls where the screen is narrow."""
    titles = (element("th", title, scope="col") if title else element("td") for title in head)
    body = element("tbody", *(element("tr", *row) for row in rows))
    inner = element("table", element("thead", element("tr", *titles)), body, classes=["table", *classes])
    box = ["pst-scrollable-table-container"]
    return element("div", inner, classes=box, role="region", tabindex="0", aria_label=label)


def relative(path: Path) -> str:
    return path.relative_to(lab.ROOT).as_posix()


def trials_line(evidence: Evidence) -> str:
    """Count the trials, and those that did what was demanded of each; where some need not do it, only the trials."""
    arms = [arm for arm in evidence.arms if not arm.not_run]
    total = sum(len(arm.trials) for arm in arms)
    trials = f"{total} {'trial' if total == 1 else 'trials'}"
    if any(check.of == "some" for arm in arms for check in arm.checks):
        return trials
    return f"{sum(holds(replace(arm, trials=(trial,))) for arm in arms for trial in arm.trials)} of {trials}"


def not_run_badge(evidence: Evidence) -> list[nodes.Node]:
    """Mark evidence of which a part was not run, wherever its verdict is shown."""
    missing = sum(bool(arm.not_run) for arm in evidence.arms)
    text = f"{missing} {'arm' if missing == 1 else 'arms'} not run"
    return [nodes.Text(" "), badge("not run", text)] if missing else []


def versions_line(evidence: Evidence) -> str:
    return ", ".join(f"{name} {version}" for name, version in evidence.versions.items())


def machine_line(evidence: Evidence) -> str:
    machine = evidence.machine
    known = {"cores": "{} cores", "kernel": "kernel {}", "system": "{}"}
    return ", ".join(form.format(machine[name]) for name, form in known.items() if machine.get(name))


def setup_words(setup: Setup) -> list[str]:
    words = [setup.server, setup.database, setup.driver, "TLS" if setup.tls else ""]
    words += [setup.mode, setup.isolation, setup.held, setup.read, setup.framework, setup.request]
    words += [setup.moment, setup.child, setup.scope, f"pool {setup.pool}" if setup.pool else "", setup.remedy]
    counts = {
        "workers": setup.workers,
        "threads each": setup.threads,
        "requests": setup.requests,
        "at a time": setup.concurrency,
    }
    return [*filter(None, words), *(f"{count} {name}" for name, count in counts.items() if count)]


def counts_line(trials: Iterable[Trial]) -> str:
    """Say what was counted, or nothing where the trials counted no outcomes."""
    totals = {kind: sum(getattr(trial.tally, kind) for trial in trials) for kind in COUNTS}
    total = sum(totals.values())
    seen = ", ".join(f"{n} {'errors' if kind == 'error' and n > 1 else kind}" for kind, n in totals.items() if n)
    return f"{seen} of {total}" if total else ""


def field_words(name: str) -> str:
    return _FIELDS.get(name, name.replace("_", " "))


def check_line(check: Check) -> str:
    return f"{field_words(check.field)}: {_OPS[check.op]}{word(check.value)} in {check.of} trial"


def values(trials: Iterable[Trial], field: str) -> list[Any]:
    """All that *trials* recorded under *field*.

    Raises:
        KeyError: one of them recorded nothing under that name.
    """
    found = (trial.value(field) for trial in trials)
    return [value for value in found if value is not None]


def summary(trials: Iterable[Trial], name: str) -> str:
    """Sum up what *trials* recorded under *name*.

    Raises:
        KeyError: one of them recorded nothing under that name.
    """
    return sum_up(values(trials, name), "never" if name == "first_bad" else "none")


def sum_up(seen: Sequence[Any], empty: str = "none") -> str:
    """Sum up values: numbers as median and range, counts as totals, others as they are, counted where they differ."""
    if not seen:
        return empty
    if all(map(is_number, seen)):
        low, high, middle = min(seen), max(seen), word(statistics.median(seen))
        return middle if low == high else f"{middle} ({word(low)}–{word(high)})"
    if all(isinstance(value, Mapping) for value in seen):
        counts = reduce(operator.add, map(Counter, seen), Counter())
        return "; ".join(f"{name} × {count}" for name, count in counts.most_common()) or empty
    counts = Counter(map(word, seen))
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{value} {count} of {len(seen)}" for value, count in counts.most_common())


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def word(value: Any) -> str:
    """Write a value as prose does."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(word, value))
    return "nothing" if value is None else str(value)


def messages(trials: Iterable[Trial]) -> Counter[str]:
    """Verbatim messages of requests and of the parent, with how often each was met."""
    trials = list(trials)
    met = reduce(operator.add, (Counter(trial.tally.messages) for trial in trials), Counter())
    # What the parent met may be what its request met.
    return met | Counter(trial.survival.message for trial in trials if trial.survival and trial.survival.message)


def aside(evidence: Evidence, verdict: Verdict, sources: Sequence[Path], notebook: nodes.Node | None) -> tag:
    """The evidence of a claim: one line, and the rest on demand."""
    line = element(
        "summary",
        badge(verdict.kind),
        f" · {trials_line(evidence)} · ",
        element("time", evidence.date),
        *not_run_badge(evidence),
    )
    links = [link("raw evidence", "evidence", evidence.claim)]
    links += [link("/".join(path.parts[-2:]), "source", relative(path)) for path in sources]
    links += [notebook] if notebook else []
    under = " · ".join(filter(None, [versions_line(evidence), machine_line(evidence), evidence.date]))
    # What all arms have in common is said once.
    setups = [setup_words(arm.setup) for arm in evidence.arms]
    common = [text for text in setups[0] if all(text in setup for setup in setups)] if setups else []
    details = element(
        "details",
        line,
        *([element("p", "In all arms: ", ", ".join(common), ".", classes=["setup"])] if common else []),
        element("ul", *(_arm(arm, common, len(evidence.arms) >= MANY_ARMS) for arm in evidence.arms), classes=["arms"]),
        element("p", under, classes=["versions"]),
        element("p", *joined(links, " · "), classes=["links"]),
    )
    return element("aside", details, classes=["margin", "evidence"])


def complaint(arm: Arm) -> str:
    """Say why an arm does not hold."""
    if arm.not_run:
        return f"{arm.name} was not run ({arm.not_run})"
    broken = [check for check in arm.checks if not holds(replace(arm, checks=(check,)))]
    lines = ", ".join(f"{check_line(check)}: {_met(check, arm)} of {len(arm.trials)}" for check in broken)
    return f"{arm.name} ({lines or 'no trial or no check'})"


def criteria(arm: Arm) -> list[str]:
    """What the arm's role demands, whether it was met, and in how many trials; where it demands the same of many
    fields, all of them in a line.
    """
    demands = []
    for check in arm.checks:
        mark = MARKS["reproduced" if holds(replace(arm, checks=(check,))) else "refuted"]
        name, _, demand = check_line(check).partition(": ")
        demands.append((name, (mark, f"{demand} ({_met(check, arm)} of {len(arm.trials)})")))
    return [f"{mark} {names}: {demand}" for names, (mark, demand) in _shared(demands)]


def _shared(said: Iterable[tuple[str, T]]) -> list[tuple[str, T]]:
    """Names and what is said of them; names of which the same is said stand together, where they are many."""
    said = list(said)
    together = {what: [name for name, same in said if same == what] for _, what in said}
    lines = [(" · ".join(together[what]) if len(together[what]) >= MANY else name, what) for name, what in said]
    return list(dict.fromkeys(lines))


def _arm(arm: Arm, common: Sequence[str], folded: bool) -> tag:
    own = [text for text in setup_words(arm.setup) if text not in common and text not in arm.name]
    head = [element("strong", arm.name), " ", element("span", ", ".join([arm.role, *own]), classes=["role"])]
    if arm.not_run:
        return element("li", element("div", *head, ": ", badge("not run")), element("div", arm.not_run))
    uncounted = {check.field for check in arm.checks} - {*COUNTS, "bad", "total"}
    seen = [counts_line(arm.trials)]
    fields = [(field_words(name), summary(arm.trials, name)) for name in sorted(uncounted)]
    seen += [f"{names}: {value}" for names, value in _shared(fields)]
    lines = [] if folded else [element("div", *head, ": ", "; ".join(filter(None, seen)))]
    lines += [element("div", line, classes=["check"]) for line in criteria(arm)]
    for text, count in messages(arm.trials).most_common(3):
        lines.append(element("div", element("code", text), f" × {count}", classes=["message"]))
    if not folded:
        return element("li", *lines)
    mark = MARKS["reproduced" if holds(arm) else "refuted"]
    told = element("div", "; ".join(filter(None, seen)))
    return element("li", element("details", element("summary", f"{mark} ", *head), told, *lines))


def _met(check: Check, arm: Arm) -> int:
    single = (replace(check, of="every"),)
    return sum(holds(replace(arm, checks=single, trials=(trial,))) for trial in arm.trials)
