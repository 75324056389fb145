"""Plots out of evidence: ``{plot}`` draws throughput by the size of the pool, ``{percentiles}`` latency by strategy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import exhibit
from docutils import nodes
from docutils.parsers.rst import directives
from exhibit import element, link
from figures import FIELDS, Figure, Unknown, recorded
from sphinx.application import Sphinx

from lab import plot
from lab.shapes import Arm, Evidence

PERCENTILES = ("p50", "p90", "p99")


class Drawn(Figure):
    """A picture of the arms that ``where`` chooses (``database=postgresql request=…``, joined by semicolons), and the
    same numbers as a table.
    """

    required_arguments = 1
    has_content = True

    def draw(self, found: list[Evidence]) -> list[nodes.Node]:
        (evidence,) = found
        arms = [arm for arm in self.arms(evidence) if not arm.not_run]
        try:
            picture = self.picture(arms)
        except ValueError as problem:
            raise Unknown(str(problem)) from None
        label = self.options.get("caption", "Plot")
        svg = nodes.raw("", picture, format="html")
        box = element("div", svg, style="overflow-x: auto", tabindex="0", role="group", aria_label="Plot")
        shown = self.shown()
        rows = [
            [element("th", arm.setup.scope, scope="row"), *(element("td", _cell(arm, name)) for name in shown)]
            for arm in arms
        ]
        head = ["strategy", *(exhibit.field_words(name) for name in shown)]
        table = element("details", element("summary", "The same as a table"), exhibit.table(head, rows, label))
        source = element("span", "Evidence: ", link(evidence.claim, "claim", evidence.claim), classes=["legend"])
        caption = element("figcaption", self.caption(), " ", source)
        return [element("figure", box, caption, table, classes=["plot"])]

    def arms(self, evidence: Evidence) -> list[Arm]:
        chosen = list(evidence.arms)
        for condition in filter(None, map(str.strip, self.options.get("where", "").split(";"))):
            name, _, value = condition.partition("=")
            if name not in FIELDS:
                raise Unknown(f"where: there is no {name!r}, only {', '.join(FIELDS)}")
            chosen = [arm for arm in chosen if str(getattr(arm.setup, name, "")) == value]
        return chosen

    def picture(self, arms: Sequence[Arm]) -> str:
        raise NotImplementedError

    def shown(self) -> Sequence[str]:
        raise NotImplementedError


class Plot(Drawn):
    """Throughput by connections. Each line of the content is a series: its name, ``=``, and patterns of its arms'
    ``scope``, joined by semicolons; ``level`` names the arm that is a horizontal line, ``seconds`` is what the
    statement takes.
    """

    option_spec: ClassVar = dict.fromkeys(("where", "level", "seconds", "caption"), directives.unchanged_required)

    def picture(self, arms: Sequence[Arm]) -> str:
        series = []
        for line in self.content:
            name, _, wanted = map(str.strip, line.partition("="))
            patterns = [pattern.strip() for pattern in wanted.split(";")]
            own = [arm for arm in arms if any(fnmatchcase(arm.setup.scope, pattern) for pattern in patterns)]
            if not own:
                raise Unknown(f"no arm has a scope like {wanted!r}")
            series.append(plot.Series(name, tuple(_point(arm) for arm in own)))
        level = next((arm for arm in arms if arm.setup.scope == self.options.get("level")), None)
        seconds = float(self.options["seconds"]) if "seconds" in self.options else 0
        return plot.curves(
            series,
            title=f"Throughput by connections: {self.options.get('caption', '')}",
            x_title="connections",
            y_title="requests per second",
            level=level and plot.Series(level.setup.scope, (plot.Point(0, _point(level).values),)),
            law=(f"connections ÷ {1000 * seconds:g} ms", 1 / seconds) if seconds else None,
        )

    def shown(self) -> Sequence[str]:
        return ("rps", "times_lock", "of_limit", "cpu_us", "server_us")


class Percentiles(Drawn):
    """Latency: a row for each arm."""

    has_content = False
    option_spec: ClassVar = dict.fromkeys(("where", "caption"), directives.unchanged_required)

    def picture(self, arms: Sequence[Arm]) -> str:
        rows = {arm.setup.scope: {key: recorded(arm.trials, key, arm.name) for key in PERCENTILES} for arm in arms}
        title = f"Latency by strategy: {self.options.get('caption', '')}"
        return plot.percentiles(rows, title=title, x_title="milliseconds from question to answer")

    def shown(self) -> Sequence[str]:
        return (*PERCENTILES, "longest", "overtaken")


def _point(arm: Arm) -> plot.Point:
    each = sum(map(int, re.findall(r"\d+", arm.setup.pool)))
    if not each:
        raise Unknown(f"no connections are known of {arm.name!r}")
    return plot.Point(each * (arm.setup.workers or 1), tuple(recorded(arm.trials, "rps", arm.name)))


def _cell(arm: Arm, name: str) -> str:
    recorded(arm.trials, name, arm.name)
    return exhibit.summary(arm.trials, name)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("plot", Plot)
    app.add_directive("percentiles", Percentiles)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
