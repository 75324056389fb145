"""Remedy by hazard for FastAPI's dependencies, from the same run as :mod:`lab.experiments.asgi_requests`."""

from __future__ import annotations

from collections.abc import Iterator

from lab.evidence import Effort, experiment
from lab.experiments.asgi_requests import AFTER, EXCEPTIONS, GONE, USES, all_right, drivers, requests
from lab.shapes import Arm

USES = [*USES, "lab/experiments/asgi_requests.py"]
ONLY, FINALLY, WITH = "yield, then close()", "yield, finally close()", "yield in with"
FUNCTION, RECIPE = 'yield in with, scope="function"', "recipe fastapi_session"
# What leaves by an exception leaves past the code after ``yield``.
LEAKS = (
    *EXCEPTIONS,
    "exception in another middleware",
    "exception in another dependency",
    "client gone in mid-stream, send fails",
    "client gone before the response",
    "cancelled between queries",
)
LATE = ("background task, lazy load", "background task, query")
ENDED = {"stream, lazy load": "truncated", "stream, query": "leaked", "HEAD": "error"}
ENDED |= {"background task, lazy load": "error", "background task, query": "leaked"}


@experiment("fastapi-yield-dependency", seeds=["I5"], uses=USES)
def yield_dependency(effort: Effort) -> Iterator[Arm]:
    for name in drivers(effort):
        yield requests(effort, name, ONLY, "hazard", dict.fromkeys(LEAKS, "leaked"))
        for remedy in (FINALLY, WITH):
            yield requests(effort, name, remedy, "remedy", all_right(name, remedy))


@experiment("fastapi-yield-without-finally", seeds=["I5"], uses=USES)
def yield_without_finally(effort: Effort) -> Iterator[Arm]:
    fine = ("plain", "stream, lazy load", "stream, query", "HEAD", GONE, *LATE)
    for name in drivers(effort):
        words = {**dict.fromkeys(LEAKS, "leaked"), **dict.fromkeys(fine, "right")}
        yield requests(effort, name, ONLY, "hazard", words)
        yield requests(effort, name, FINALLY, "remedy", dict.fromkeys(words, "right"))


@experiment("fastapi-function-scope-truncates", seeds=["I6"], uses=USES)
def function_scope_truncates(effort: Effort) -> Iterator[Arm]:
    fine = dict.fromkeys(("plain", *EXCEPTIONS), "right")
    for name in drivers(effort):
        yield requests(effort, name, FUNCTION, "hazard", {**ENDED, **fine})
        yield requests(effort, name, WITH, "remedy", dict.fromkeys({**ENDED, **fine}, "right"))


@experiment("fastapi-recipe-right", seeds=["I5"], uses=USES)
def recipe_right(effort: Effort) -> Iterator[Arm]:
    for name in drivers(effort):
        yield requests(effort, name, ONLY, "hazard", dict.fromkeys(LEAKS, "leaked"))
        yield requests(effort, name, FUNCTION, "hazard", ENDED)
        yield requests(effort, name, RECIPE, "remedy", all_right(name, RECIPE))


@experiment("fastapi-background-task-session", seeds=["I5"], uses=USES)
def background_task_session(effort: Effort) -> Iterator[Arm]:
    for name in drivers(effort):
        for remedy in ("with in the endpoint", AFTER, FUNCTION):
            yield requests(effort, name, remedy, "hazard", {row: ENDED[row] for row in LATE})
        for remedy in (FINALLY, WITH, RECIPE, "recipe asgi_session"):
            yield requests(effort, name, remedy, "remedy", dict.fromkeys(LATE, "right"))
