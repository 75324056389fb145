"""Plots out of recorded numbers, as one inline ``<svg>`` each: throughput by the size of a pool, latency by percentile.

Axes are logarithmic. The same numbers give the same picture, byte by byte. Colours are those of the swim lanes, and
never speak alone: each series has a mark of its own as well.
"""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _HIGH = 480, 52, 20, 34, 270
_NAMES, _ROW, _LEGEND = 196, 25, 22
# Between marks that would lie on each other.
_APART = 8

_STYLE = """\
{0} text{{fill:var(--lane-ink,currentColor)}}
{0} .m{{fill:var(--lane-muted,#707a86)}}
{0} .grid{{stroke:var(--lane-line,#8a94a0);stroke-opacity:.3;stroke-width:1}}
{0} .level{{stroke:var(--lane-bad,#d1383d);stroke-dasharray:7 4}}
{0} .law{{stroke:var(--lane-muted,#707a86);stroke-dasharray:2 4;stroke-linecap:round}}
{0} .s0{{--o:var(--lane-a,#2b7bba)}}
{0} .s1{{--o:var(--lane-b,#b8620a)}}
{0} .s2{{--o:var(--lane-c,#2a8a55)}}
{0} .s3{{--o:var(--lane-d,#8a5fc0)}}
{0} .s4{{--o:var(--lane-ink,currentColor)}}
{0} .mark{{stroke:var(--o);fill:var(--o)}}
{0} .open{{stroke:var(--o);fill:var(--lane-ground,var(--pst-color-background,Canvas))}}
{0} .line{{stroke:var(--o)}}
{0} .thin{{stroke:var(--o);stroke-width:1.2}}"""

# Circle, square, triangle, diamond, cross; round the origin.
_MARKS = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "M-4.5 -4.5h9v9h-9z",
    "M0 -6l5.5 9.5h-11z",
    "M0 -6l6 6l-6 6l-6 -6z",
    "M-5 -5l10 10m0 -10l-10 10",
)


@dataclass(frozen=True)
class Point:
    """What was measured at *x*, as often as it was."""

    x: float
    values: tuple[float, ...]

    @property
    def middle(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Series:
    """Points that belong together."""

    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class _Scale:
    """From a logarithm to a place."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + part * (self.end - self.begin)

    @property
    def ticks(self) -> list[float]:
        return [tick for tick in _rungs() if self.low <= tick * 1.0001 and tick <= self.high * 1.0001]


def curves(
    series: Sequence[Series],
    *,
    title: str,
    x_title: str,
    y_title: str,
    level: Series | None = None,
    law: tuple[str, float] | None = None,
) -> str:
    """Draw *series* as marks with their ranges, joined by lines.

    Args:
        level: one that has no x: its median is a horizontal line.
        law: a name, and the factor by which x gives the most that y can be.

    Raises:
        ValueError: there is no point, or one that has no place on a logarithmic axis.
    """
    points = [point for each in series for point in each.points]
    extra = [value for point in level.points for value in point.values] if level else []
    x = _scale([point.x for point in points], _LEFT + 26, _WIDTH - _RIGHT - 22, snug=True)
    y = _scale([value for point in points for value in point.values] + extra, _TOP + _HIGH, _TOP)
    bottom, right = _TOP + _HIGH, _WIDTH - _RIGHT
    parts = [_text(4, 16, y_title)]
    for tick in y.ticks:
        parts += [_line("grid", _LEFT, y(tick), right, y(tick)), _text(_LEFT - 6, y(tick) + 5, f"{tick:g}", "m", "end")]
    for tick in sorted({point.x for point in points}):
        if any(tick == rung for rung in _rungs()) or len(x.ticks) < 2:
            parts += [
                _line("grid", x(tick), _TOP, x(tick), bottom),
                _text(x(tick), bottom + 18, f"{tick:g}", "m", "middle"),
            ]
    parts.append(_text((_LEFT + right) / 2, bottom + 38, x_title, anchor="middle"))
    if law:
        begin, end = (min(max(at, y.low / law[1]), y.high / law[1]) for at in (x.low, x.high))
        parts.append(_line("law", x(begin), y(begin * law[1]), x(end), y(end * law[1])))
    if level:
        height = y(statistics.median(extra))
        parts.append(_line("level", _LEFT, height, right, height))
    for n, each in enumerate(series):
        parts.append(_series(n, each, x, y, _shifts(series)))
    items = [_sample(n) + _text(34, 5, each.name) for n, each in enumerate(series)]
    items += [_line("law", 0, 0, 26, 0) + _text(34, 5, law[0])] if law else []
    items += [_line("level", 0, 0, 26, 0) + _text(34, 5, level.name)] if level else []
    return _svg(title, told([*series, *([level] if level else [])]), parts, bottom + 62, items)


def percentiles(rows: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, x_title: str) -> str:
    """Draw a row for each name: from the first of its percentiles to the last, medians over what was measured.

    Args:
        rows: by name and percentile what was measured; all have the same percentiles.

    Raises:
        ValueError: there is no row, or one that has no place on a logarithmic axis.
    """
    middles = {name: {key: statistics.median(seen) for key, seen in row.items()} for name, row in rows.items()}
    x = _scale([value for row in middles.values() for value in row.values()], _NAMES + 8, _WIDTH - _RIGHT)
    bottom = 12 + _ROW * len(rows)
    parts = []
    parts += [_line("grid", x(tick), 8, x(tick), bottom) for tick in x.ticks]
    parts += [_text(x(tick), bottom + 18, f"{tick:g}", "m", "middle") for tick in _with_room(x)]
    parts.append(_text((_NAMES + _WIDTH - _RIGHT) / 2, bottom + 38, x_title, anchor="middle"))
    keys = list(next(iter(middles.values())))
    for n, (name, row) in enumerate(middles.items()):
        height = 10 + _ROW * (n + 0.5)
        places = [x(row[key]) for key in keys]
        parts.append(_text(_NAMES, height + 5, name, anchor="end"))
        line = _line("line", places[0], height, places[-1], height)
        parts.append(
            f'<g class="s0">{line}{"".join(_step(k, len(keys), at, height) for k, at in enumerate(places))}</g>'
        )
    items = [f'<g class="s0">{_step(k, len(keys), 13, 0)}</g>' + _text(34, 5, key) for k, key in enumerate(keys)]
    sentences = [f"{name}: {', '.join(f'{key} {_number(row[key])}' for key in keys)}." for name, row in middles.items()]
    return _svg(title, " ".join(sentences), parts, bottom + 62, items)


def told(series: Sequence[Series]) -> str:
    """The medians in words, a sentence for each series."""

    def words(point: Point) -> str:
        return f"{_number(point.middle)} at {point.x:g}" if point.x else _number(point.middle)

    return " ".join(f"{each.name}: {', '.join(map(words, each.points))}." for each in series)


def _rungs() -> list[float]:
    return [step * 10.0**power for power in range(-3, 7) for step in (1, 2, 5)]


def _scale(values: Sequence[float], begin: float, end: float, snug: bool = False) -> _Scale:
    if not values:
        raise ValueError("nothing to draw: there is no point")
    low, high = min(values), max(values)
    if low <= 0:
        raise ValueError(f"{low:g} has no place on a logarithmic axis")
    if snug and low < high:
        return _Scale(low, high, begin, end)
    below = max(rung for rung in _rungs() if rung <= low)
    return _Scale(below, min(rung for rung in _rungs() if rung >= high and rung > below), begin, end)


def _with_room(x: _Scale) -> list[float]:
    """The ticks whose numbers do not touch each other: powers of ten first."""
    chosen: list[float] = []
    for tick in sorted(x.ticks, key=lambda tick: not f"{tick:g}".startswith("1")):
        if all(abs(x(tick) - x(other)) > 4 * len(f"{tick:g}{other:g}") + 8 for other in chosen):
            chosen.append(tick)
    return chosen


def _shifts(series: Sequence[Series]) -> dict[tuple[int, float], float]:
    """How far each mark steps aside, by series and x, so that those of one x stand side by side."""
    at: dict[float, list[int]] = {}
    for n, each in enumerate(series):
        for point in each.points:
            at.setdefault(point.x, []).append(n)
    return {(n, x): (k - (len(found) - 1) / 2) * _APART for x, found in at.items() for k, n in enumerate(found)}


def _series(n: int, each: Series, x: _Scale, y: _Scale, shifts: Mapping[tuple[int, float], float]) -> str:
    places = [(x(point.x) + shifts[n, point.x], y(point.middle)) for point in each.points]
    path = "L".join(f"{at:.1f} {height:.1f}" for at, height in places)
    parts = [f'<path class="thin" d="M{path}"/>'] if len(places) > 1 else []
    for point, (at, height) in zip(each.points, places, strict=True):
        parts += [_line("line", at, y(min(point.values)), at, y(max(point.values))), _mark(n, at, height)]
    return f'<g class="s{n % len(_MARKS)}">{"".join(parts)}</g>'


def _sample(n: int) -> str:
    return f'<g class="s{n % len(_MARKS)}">{_line("thin", 0, 0, 26, 0)}{_mark(n, 13, 0)}</g>'


def _mark(n: int, x: float, y: float) -> str:
    return f'<path class="mark" transform="translate({x:.1f} {y:.1f})" d="{_MARKS[n % len(_MARKS)]}"/>'


def _step(k: int, of: int, x: float, y: float) -> str:
    """The mark of the k-th percentile: a disc for the first, a ring for the last, ticks between."""
    if 0 < k < of - 1:
        return _line("line", x, y - 6, x, y + 6)
    return f'<circle class="{"open" if k else "mark"}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def _svg(title: str, desc: str, parts: Sequence[str], top: float, items: Sequence[str]) -> str:
    columns = 2 if len(items) > 3 else len(items)
    rows = -(-len(items) // columns)
    width = (_WIDTH - 16) / columns
    legend = [
        f'<g transform="translate({12 + n // rows * width:g} {top + n % rows * _LEGEND:g})">{item}</g>'
        for n, item in enumerate(items)
    ]
    name = f"plot-{hashlib.sha256(' '.join([title, desc, *parts]).encode()).hexdigest()[:10]}"
    # Below the minimal width the letters could no longer be read: the figure scrolls instead.
    size = f"display:block;width:100%;min-width:{_WIDTH * 0.8:.0f}px;max-width:{_WIDTH * 1.3:.0f}px"
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" viewBox="0 0 {_WIDTH} {top + rows * _LEGEND:g}"',
        f'style="{size}" role="img" aria-labelledby="{name}-title {name}-desc"',
        'font-size="14" stroke-width="2" fill="none">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-desc">{escape(desc)}</desc>',
        f"<style>{_STYLE.format(f'#{name}')}</style>",
    ]
    return "\n".join([*head, *parts, *legend, "</svg>"])


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "") -> str:
    given = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:.1f}" y="{y:.1f}"{given}>{escape(text, quote=False)}</text>'


def _line(kind: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path class="{kind}" d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}"/>'


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
