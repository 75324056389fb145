"""Middlewares that remove the thread's Session, the source's two among them, against what can befall a request."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab import requestgrid
from lab.evidence import Effort, experiment
from lab.scenes.wsgi_requests import HAZARDS
from lab.scopes import FINALLY, GENERATOR, GENERATOR_BODY, NONE, RECIPE, REMEDIES, SOURCE
from lab.shapes import Arm

SCENE = "lab.scenes.wsgi_requests"
USES = [*requestgrid.SHARED, "lab/scenes/wsgi_requests.py", "lab/scopes.py", "recipes/wsgi_session.py"]
BEFORE, MID_STREAM = "exception before the body", "exception in mid-stream"
GENERATED = ("generator application", "client gone, generator application")
NOT_ITERATED = "HEAD, body not iterated"
ROWS = tuple(HAZARDS)
_arms = functools.partial(requestgrid.arms, SCENE, "WSGI", REMEDIES)


@experiment("wsgi-remove-cures-plain", seeds=["I6", "I7"], uses=USES)
def cures_plain(effort: Effort) -> Iterator[Arm]:
    expected = {NONE: ("hazard", {"plain": "leaked"})}
    yield from _arms(effort, expected | {name: ("remedy", {"plain": "right"}) for name in (SOURCE, FINALLY, RECIPE)})


@experiment("wsgi-remove-truncates-streams", seeds=["I6", "I7"], uses=USES)
def truncates(effort: Effort) -> Iterator[Arm]:
    rows = ("lazy stream", "HEAD")
    expected = {name: ("hazard", dict.fromkeys(rows, "truncated")) for name in (SOURCE, FINALLY)}
    expected[NONE] = ("control", dict.fromkeys(rows, "leaked"))
    yield from _arms(effort, {**expected, RECIPE: ("remedy", dict.fromkeys(rows, "right"))})


@experiment("wsgi-remove-skipped-by-exception", seeds=["I6", "I7"], uses=USES)
def skipped(effort: Effort) -> Iterator[Arm]:
    dirty = "leaked and dirty"
    expected = {
        SOURCE: ("hazard", {BEFORE: dirty, MID_STREAM: dirty}),
        FINALLY: ("hazard", {BEFORE: "right", MID_STREAM: dirty}),
        RECIPE: ("remedy", {BEFORE: "right", MID_STREAM: "right"}),
    }
    yield from _arms(effort, expected)


@experiment("wsgi-generator-application-leaks", seeds=["I6", "I7"], uses=USES)
def generators(effort: Effort) -> Iterator[Arm]:
    expected = {name: ("hazard", dict.fromkeys(GENERATED, "leaked")) for name in (SOURCE, FINALLY)}
    right = dict.fromkeys(GENERATED, "right")
    yield from _arms(effort, expected | {name: ("remedy", right) for name in (GENERATOR, GENERATOR_BODY, RECIPE)})


@experiment("wsgi-close-aware-right", seeds=["I6", "I7"], uses=USES)
def right_everywhere(effort: Effort) -> Iterator[Arm]:
    dirty = dict.fromkeys((BEFORE, MID_STREAM), "leaked and dirty")
    almost = dict.fromkeys(ROWS, "right")
    expected = {
        NONE: ("hazard", {**dict.fromkeys(ROWS, "leaked"), **dirty}),
        GENERATOR: ("hazard", {**almost, NOT_ITERATED: "error"}),
        GENERATOR_BODY: ("hazard", {**almost, NOT_ITERATED: "leaked"}),
        RECIPE: ("remedy", almost),
    }
    yield from _arms(effort, expected)
