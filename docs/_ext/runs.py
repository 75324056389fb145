"""What grids of runs share: the states that a cell can be in, cells that lead to their runs, and the lists of these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import exhibit
from docutils import nodes
from exhibit import element

# Mark and colour of each word, never colour alone; from good to bad. Other words are shown as they are.
STATES = {
    "right": ("✓", "right"),
    "new": ("✓", "right"),
    "alive": ("✓", "right"),
    "blocked": ("◐", "half"),
    "late": ("◐", "half"),
    "leaked": ("◐", "half"),
    "child fails": ("◐", "half"),
    "error": ("✗", "error"),
    "dead": ("✗", "error"),
    "both fail": ("✗", "error"),
    "hung": ("∞", "hung"),
    "hangs": ("∞", "hung"),
    "stale": ("✗", "wrong"),
    "old": ("✗", "wrong"),
    "truncated": ("✗", "wrong"),
    "dirty": ("✗", "wrong"),
    "leaked and dirty": ("✗", "wrong"),
    "lost": ("✗", "wrong"),
    "wrong": ("✗", "wrong"),
}


def marked(state: str, seen: int = 0, of: int = 0) -> str:
    """Write a state with its mark; with how often it was seen, where that was not always."""
    mark = STATES[state][0] if state in STATES else ""
    return f"{mark} {state}{f' {seen} of {of}' if seen < of else ''}".strip().replace(" ", "\u00a0")


def worst(states: Iterable[str]) -> str:
    """The worst of several states; empty where none is one."""
    return max((state for state in states if state in STATES), key=list(STATES).index, default="")


def colour(state: str, otherwise: str = "plain") -> str:
    return f"cell-{STATES[state][1] if state in STATES else otherwise}"


def cell(lines: Sequence[str], kind: str, target: str, told: str) -> nodes.Node:
    """A cell that is a link to its run in the list below; *told* is shown by a pointer that rests on it."""
    anchor = element("a", *(element("span", line) for line in lines), href=f"#{target}")
    return element("td", anchor, classes=[kind], title=told)


def absent() -> nodes.Node:
    return element("td", "–", title="does not apply")


def listed(head: Sequence[str], body: Iterable[Sequence[nodes.Node]], label: str) -> nodes.Node:
    """A list of runs that opens on demand."""
    return element("details", element("summary", label), exhibit.table(head, body, label))


def trials(count: int) -> str:
    return f"{count} {'trial' if count == 1 else 'trials'}"


def run_id(*words: str) -> str:
    return "run-" + re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")
