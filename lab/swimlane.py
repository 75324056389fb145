"""Swim lanes: who wrote what to which socket, and who read whose answer, drawn as SVG from a recorded trace.

An event is a dictionary: ``t`` (seconds), ``who`` (a lane), ``op`` (writes, reads, sleeps, note), ``owner`` (whose
question or answer the bytes carry; several joined by ``+``; empty if unknown), ``text``, ``bytes`` and ``socket``.
The same events give the same picture, byte by byte, and the same sentences.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

Event = Mapping[str, Any]

DATABASE = "database"

_FIRST, _STEP, _GAP, _RAILS, _EDGE = 72, 72, 84, 96, 44
_HEAD, _ROW, _LEGEND = 50, 54, 26
_CHARACTER = 7.3

# Colour never speaks alone: each owner has a dash pattern and a lettered chip as well. The fallbacks are mid-tones,
# legible on white and on black, for a page that sets none of the variables.
_STYLE = """\
{0} text{{fill:var(--lane-ink,currentColor);stroke:var(--lane-ground,var(--pst-color-background,Canvas));\
stroke-width:4px;paint-order:stroke}}
{0} .b{{font-weight:600}}
{0} .i{{font-style:italic}}
{0} .in{{stroke:none;font-weight:600}}
{0} .m{{fill:var(--lane-muted,#707a86);font-size:12px}}
{0} .bad{{fill:var(--lane-bad,#d1383d);font-weight:600}}
{0} .lane{{stroke:var(--lane-line,#8a94a0)}}
{0} .server{{stroke:var(--lane-server,#707a86)}}
{0} .asleep{{stroke-dasharray:1 6;stroke-linecap:round}}
{0} .rail{{fill:var(--lane-line,#8a94a0);fill-opacity:.35}}
{0} .a0{{--o:var(--lane-a,#2b7bba);--d:none}}
{0} .a1{{--o:var(--lane-b,#b8620a);--d:8 4}}
{0} .a2{{--o:var(--lane-c,#2a8a55);--d:2 4}}
{0} .a3{{--o:var(--lane-d,#8a5fc0);--d:10 4 2 4}}
{0} .a-{{--o:var(--lane-muted,#707a86);--d:1 3}}
{0} .arrow{{stroke:var(--o);stroke-dasharray:var(--d)}}
{0} .head{{fill:var(--o)}}
{0} .chip{{fill:var(--lane-ground,var(--pst-color-background,Canvas));stroke:var(--o)}}
{0} .cross{{stroke:var(--lane-bad,#d1383d);stroke-width:3px}}"""
_LOOKS = 4


def sentences(events: Sequence[Event]) -> list[str]:
    """Tell the events in words, one sentence each."""
    return [_sentence(event) for event in events]


def render(events: Sequence[Event], lanes: Sequence[str] | None = None) -> str:
    """Draw *events*, in the order in which they come, as one inline ``<svg>``.

    *lanes* orders the processes, and shows those that did nothing; without it they come as they appear, or in order
    where they differ only in the last word.
    """
    return _Picture(events, lanes).svg()


def misread(event: Event) -> str:
    """Whose answer it was, when a process read bytes that were not (only) its own; else an empty string."""
    if event["op"] != "reads" or event["who"] == DATABASE:
        return ""
    return " and ".join(owner for owner in _owners(event) if not _is_own(owner, event["who"]))


def _owners(event: Event) -> list[str]:
    return [owner.strip() for owner in (event.get("owner") or "").split("+") if owner.strip()]


def _is_own(owner: str, who: str) -> bool:
    return who == owner or who.endswith(f" {owner}")


def _milliseconds(event: Event) -> str:
    return f"{event['t'] * 1000:.1f}"


def _sentence(event: Event) -> str:
    head = f"{_milliseconds(event)} ms: {event['who']}"
    text = event.get("text", "")
    if event["op"] == "note":
        return f"{head}: {text}."
    if event["op"] == "sleeps":
        return f"{head} is {_asleep(text)}, to the end."
    size = f" ({event['bytes']} bytes)" if event.get("bytes") else ""
    foreign = misread(event)
    part = "in part " if any(_is_own(owner, event["who"]) for owner in _owners(event)) else ""
    meant = f", {part}meant for {foreign}" if foreign else ""
    return f"{head} {event['op']} {text or 'bytes'}{size}{meant}."


def _asleep(text: str) -> str:
    return text if text.startswith("asleep") else f"asleep {text}".strip()


class _Picture:
    def __init__(self, events: Sequence[Event], lanes: Sequence[str] | None) -> None:
        self.events = events
        seen = dict.fromkeys([*(lanes or ()), *(event["who"] for event in events)])
        self.processes = [who for who in seen if who != DATABASE]
        if lanes is None and len({who.rpartition(" ")[0] or who for who in self.processes}) == 1:
            self.processes.sort()
        self.sockets = list(dict.fromkeys(event["socket"] for event in events if event.get("socket"))) or [""]
        owners = sorted({owner for event in events for owner in _owners(event)})
        self.look = {owner: f"a{n % _LOOKS}" for n, owner in enumerate(owners)}
        # Where the trace shows the database's own side, a write ends on the wire and the database picks it up there.
        self.database_acts = any(event["who"] == DATABASE for event in events)
        self.x = {who: _FIRST + n * _STEP for n, who in enumerate(self.processes)}
        last = max(self.x.values(), default=0)
        self.rail = {name: last + _GAP + n * _RAILS for n, name in enumerate(self.sockets)}
        self.x[DATABASE] = max(self.rail.values()) + _GAP
        self.width = self.x[DATABASE] + _EDGE
        self.bottom = _HEAD + _ROW * len(events) + 24

    def svg(self) -> str:
        events = [dict(event) for event in self.events]
        digest = hashlib.sha256(json.dumps([self.processes, events], sort_keys=True).encode()).hexdigest()
        name = f"lane-{digest[:10]}"
        title = f"Swim lane: {', '.join(self.processes)} and the database, {self.wires()}"
        legend = self.legend()
        height = self.bottom + _LEGEND * len(legend) + 8
        # Below the minimal width the letters could no longer be read: the figure scrolls instead.
        size = f"display:block;width:100%;min-width:{self.width * 0.8:.0f}px;max-width:{self.width * 1.25:.0f}px"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" id="{name}" viewBox="0 0 {self.width} {height}" style="{size}"',
            f'role="img" aria-labelledby="{name}-title {name}-desc" font-size="13" stroke-width="2" fill="none">',
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-desc">{escape(" ".join(sentences(self.events)))}</desc>',
            f"<style>{_STYLE.format(f'#{name}')}</style>",
            *self.lanes(),
            *(self.event(event, _HEAD + _ROW * n + 34) for n, event in enumerate(self.events)),
            *(_shifted(self.bottom + _LEGEND * (n + 1), item) for n, item in enumerate(legend)),
            "</svg>",
        ]
        return "\n".join(parts)

    def wires(self) -> str:
        return "one socket" if len(self.sockets) == 1 else f"{len(self.sockets)} sockets"

    def lanes(self) -> list[str]:
        asleep = {event["who"]: n for n, event in enumerate(self.events) if event["op"] == "sleeps"}
        parts = [_text(4, 34, "ms", "m")]
        for who, x in self.x.items():
            kind = "server" if who == DATABASE else "lane"
            end = _HEAD + _ROW * asleep[who] + 34 if who in asleep else self.bottom
            parts += [_heading(x, who), _line(kind, x, _HEAD, x, end)]
            if who in asleep:
                parts.append(_line(f"{kind} asleep", x, end, x, self.bottom))
        for n, (name, x) in enumerate(self.rail.items(), 1):
            heading = self.wires() if len(self.rail) == 1 else f"socket {n}"
            parts += [
                _text(x, 18, heading, "b", "middle"),
                _text(x, 34, name, "m", "middle"),
                f'<rect class="rail" x="{x - 5}" y="{_HEAD}" width="10" height="{self.bottom - _HEAD}" rx="5"/>',
            ]
        return parts

    def event(self, event: Event, y: int) -> str:
        draw = {"writes": self.write, "reads": self.read}.get(event["op"], self.note)
        owners = _owners(event)
        foreign = [owner for owner in owners if not _is_own(owner, event["who"])]
        look = self.look[(foreign or owners)[0]] if owners else "a-"
        return f'<g class="{look}">{_text(4, y + 4, _milliseconds(event), "m")}{"".join(draw(event, y))}</g>'

    def write(self, event: Event, y: int) -> list[str]:
        x, rail = self.x[event["who"]], self.rail_of(event)
        end = rail if self.database_acts else self.x[DATABASE]
        return [_arrow(x, end, y), _chip(rail, y, _owners(event)), self.label(event, y)]

    def read(self, event: Event, y: int) -> list[str]:
        x, rail = self.x[event["who"]], self.rail_of(event)
        parts = [_arrow(rail, x, y), _chip(rail, y, _owners(event)), self.label(event, y)]
        foreign = misread(event)
        return [*parts, _cross(x, y), _text(x + 12, y + 20, f"meant for {foreign}", "bad")] if foreign else parts

    def note(self, event: Event, y: int) -> list[str]:
        text = _asleep(event.get("text", "")) if event["op"] == "sleeps" else event.get("text", "")
        x = self.x[event["who"]]
        return [f'<circle class="chip" cx="{x}" cy="{y}" r="4"/>', _text(x + 12, y + 4, self.fit(text, x), "i")]

    def label(self, event: Event, y: int) -> str:
        x, text = self.x[event["who"]], event.get("text", "")
        sized = f"{text} · {event['bytes']} B" if event.get("bytes") else text
        if event["who"] == DATABASE:
            return _text(x - 12, y - 13, sized, anchor="end")
        return _text(x + 12, y - 13, sized if self.fit(sized, x) == sized else self.fit(text, x))

    def fit(self, text: str, x: int) -> str:
        room = int((self.width - x - 16) / _CHARACTER)
        return text if len(text) <= room else f"{text[: room - 1]}…"

    def rail_of(self, event: Event) -> int:
        return self.rail[event.get("socket") or self.sockets[0]]

    def legend(self) -> list[str]:
        items = [
            f'<g class="{look}">{_line("arrow", 44, -4, 116, -4)}{_chip(80, -4, [owner])}</g>'
            + _text(130, 0, f"{owner}'s question or answer")
            for owner, look in self.look.items()
        ]
        if any(misread(event) for event in self.events):
            items.append(_cross(80, -4) + _text(130, 0, "read by the wrong process"))
        return items


def _shifted(y: int, item: str) -> str:
    return f'<g transform="translate(0 {y})">{item}</g>'


def _heading(x: int, name: str) -> str:
    first, _, rest = name.rpartition(" ")
    words = (first, rest) if first else (rest,)
    return "".join(_text(x, 18 + 16 * n, word[:11], "b", "middle") for n, word in enumerate(words))


def _text(x: int, y: int, text: str, kind: str = "", anchor: str = "") -> str:
    given = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x}" y="{y}"{given}>{escape(text, quote=False)}</text>' if text else ""


def _line(kind: str, x: int, y: int, to_x: int, to_y: int) -> str:
    return f'<path class="{kind}" d="M{x} {y}L{to_x} {to_y}"/>'


def _arrow(start: int, end: int, y: int) -> str:
    back = -9 if end > start else 9
    return _line("arrow", start, y, end + back, y) + f'<path class="head" d="M{end} {y}l{back} -5v10z"/>'


def _chip(x: int, y: int, owners: Sequence[str]) -> str:
    # "worker A" is A: the chip is as small as it may be.
    label = "+".join(owner.rpartition(" ")[2] for owner in owners) or "?"
    width = 12 + 7 * len(label)
    box = f'<rect class="chip" x="{x - width / 2:g}" y="{y - 9}" width="{width}" height="18" rx="9"/>'
    return box + _text(x, y + 4, label, "in", "middle")


def _cross(x: int, y: int) -> str:
    return f'<path class="cross" d="M{x - 6} {y - 6}l12 12m0 -12l-12 12"/>'
