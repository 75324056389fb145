"""Where a Flask application ends its Sessions, against what can befall a request; and when its releases tear down."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib import metadata
from itertools import groupby
from typing import Any

from lab import components, evidence, requestgrid
from lab.databases import start
from lab.drivers import arguments, driver
from lab.evidence import ROOT, Effort, arm, experiment
from lab.hazards import (
    AFTER_REQUEST,
    DB_SESSION,
    FLASK_RECIPE,
    FLASK_REMEDIES,
    TEARDOWN_APPCONTEXT,
    TEARDOWN_REQUEST,
    WITH_IN_BODY,
    WITH_IN_VIEW,
)
from lab.process import play
from lab.scenes.flask_requests import HAZARDS, PROPAGATE
from lab.shapes import Arm, Check, Setup, Trial

SCENE = "lab.scenes.flask_requests"
USES = [
    *requestgrid.SHARED,
    "lab/scenes/flask_requests.py",
    "lab/apps/flask_pages.py",
    "recipes/flask_session.py",
]
ROWS = tuple(HAZARDS)
STREAM, CONTEXT = "lazy stream", "stream_with_context"
MID_STREAM, MID_CONTEXT = "exception in mid-stream", "exception in mid-stream, stream_with_context"
IN_REQUEST, IN_APPCONTEXT = "exception in another teardown_request", "exception in another teardown_appcontext"
FAILING = ("exception before the body", PROPAGATE, "abort(404) after a flush", MID_STREAM, MID_CONTEXT)
DIRTY = "leaked and dirty"
# The middlewares have shown that MariaDB makes no difference.
DRIVERS = ("psycopg2", "sqlite")
# The folder of each release, where it is not the environment's own.
RELEASES = {"2.3.3": "2.3.3", "3.1.1": "3.1.1", "3.1.2": "3.1.2", "": ""}


def _arms(effort: Effort, expected: dict[str, Any]) -> Iterator[Arm]:
    for name in ("Flask", "Flask-SQLAlchemy", "Werkzeug"):
        evidence.saw(name, metadata.version(name))
    plain = "Flask + Werkzeug"
    for title, remedies in ((plain, {*FLASK_REMEDIES} - {DB_SESSION}), (f"{plain} + Flask-SQLAlchemy", {DB_SESSION})):
        own = {name: what for name, what in expected.items() if name in remedies}
        yield from requestgrid.arms(SCENE, title, FLASK_REMEDIES, effort, own, DRIVERS)


@experiment("flask-hooks-per-hazard", seeds=["I5", "I6"], uses=USES)
def hooks(effort: Effort) -> Iterator[Arm]:
    right = dict.fromkeys(ROWS, "right")
    cut = dict.fromkeys((STREAM, CONTEXT), "truncated")
    expected = {
        "none": (
            "hazard",
            {**dict.fromkeys(ROWS, "leaked"), **dict.fromkeys((*FAILING, IN_REQUEST, IN_APPCONTEXT), DIRTY)},
        ),
        AFTER_REQUEST: ("hazard", {**right, **cut, **dict.fromkeys((PROPAGATE, MID_STREAM, MID_CONTEXT), DIRTY)}),
        TEARDOWN_REQUEST: ("hazard", {**right, **cut, MID_STREAM: DIRTY, IN_REQUEST: DIRTY}),
        TEARDOWN_APPCONTEXT: ("hazard", {**right, **cut, MID_STREAM: DIRTY, IN_APPCONTEXT: DIRTY}),
        WITH_IN_VIEW: ("hazard", {**right, **cut, MID_STREAM: "leaked", MID_CONTEXT: "leaked"}),
        WITH_IN_BODY: ("remedy", right),
        FLASK_RECIPE: ("remedy", right),
    }
    yield from _arms(effort, expected)


@experiment("flask-teardown-chain-broken", seeds=["I5"], uses=USES)
def chain(effort: Effort) -> Iterator[Arm]:
    expected = {
        TEARDOWN_REQUEST: ("hazard", {"plain": "right", IN_REQUEST: DIRTY, IN_APPCONTEXT: "right"}),
        TEARDOWN_APPCONTEXT: ("hazard", {"plain": "right", IN_REQUEST: "right", IN_APPCONTEXT: DIRTY}),
        FLASK_RECIPE: ("remedy", {"plain": "right", IN_REQUEST: "right", IN_APPCONTEXT: "right"}),
    }
    yield from _arms(effort, expected)


@experiment("flask-sqlalchemy-scope", seeds=["I5"], uses=USES)
def scope(effort: Effort) -> Iterator[Arm]:
    right = dict.fromkeys(ROWS, "right")
    wrong = {STREAM: "truncated", CONTEXT: "truncated", MID_STREAM: "error", IN_APPCONTEXT: "leaked"}
    yield from _arms(effort, {DB_SESSION: ("hazard", {**right, **wrong}), FLASK_RECIPE: ("remedy", right)})


@experiment("flask-stream-teardown-by-release", seeds=["I5", "I6"], uses=USES)
def releases(effort: Effort) -> Iterator[Arm]:
    """Facts: ``order``, in which a request with stream_with_context goes; and all rows."""
    for release, folder in RELEASES.items():
        version = release or metadata.version("Flask")
        early = tuple(map(int, version.split("."))) >= (3, 1, 2)
        for remedy in (TEARDOWN_APPCONTEXT, FLASK_RECIPE):
            it = Setup("sqlite", "sqlite", remedy=remedy, framework=f"Flask {version}")
            early_checks = [Check("torn down before the body", "==", early)]
            if remedy == FLASK_RECIPE:
                role, checks = "remedy", [Check(row, "==", "right") for row in ROWS]
            else:
                role = "hazard" if early else "control"
                checks = [Check(CONTEXT, "==", "truncated" if early else "right"), *early_checks]
            run = functools.partial(_of_release, folder, remedy, effort)
            yield arm(f"Flask {version}, {remedy}", role, it, checks, run)


def _of_release(release: str, remedy: str, effort: Effort) -> Iterator[Trial]:
    folder = ROOT / ".venv" / "flask" / release
    if release and not folder.exists():
        raise components.Missing(f"Flask {release} is missing; to install it: make setup")
    remedies = (TEARDOWN_APPCONTEXT, FLASK_RECIPE)
    for got in requestgrid.played(SCENE, "sqlite", remedies, effort.pick(5, 1), str(folder) if release else ""):
        trial = requestgrid.trial(got[remedy])
        order = [event for event, _ in groupby(got[remedy][CONTEXT]["events"])]
        early = order.index("teardown") < order.index("chunk")
        yield Trial(facts={**trial.facts, "order": ", ".join(order), "torn down before the body": early})


@experiment(
    "flask-sqlalchemy-hands-on-a-session",
    uses=[*USES, "lab/scenes/context_scope.py"],
)
def handed_on(effort: Effort) -> Iterator[Arm]:
    """Facts: whether a request was handed an earlier one's Session, at which request; changes that got committed."""
    handed = [Check("handed", "==", True), Check("same_id", "==", True), Check("dirty", ">=", 1)]
    kept_apart = [Check("handed", "==", False), Check("same_id", "==", True), Check("dirty", "==", 0)]
    own, db_session = "Flask + Werkzeug", "Flask + Werkzeug + Flask-SQLAlchemy"
    for name in ("psycopg2", "PyMySQL")[: effort.pick(2, 1)]:
        for title, role, framework, remedy, spoils, checks in (
            ("a teardown function raises", "hazard", db_session, DB_SESSION, "teardown_appcontext", handed),
            ("none raises", "control", db_session, DB_SESSION, "", kept_apart),
            ("a teardown function raises, recipe", "remedy", own, FLASK_RECIPE, "teardown_appcontext", kept_apart),
        ):
            it = Setup(driver(name).database, name, remedy=remedy, framework=framework, request=title)
            run = functools.partial(_handed_on, name, remedy, spoils, effort.pick(5, 1))
            yield arm(f"{title}, {name}", role, it, checks, run)


def _handed_on(name: str, remedy: str, spoils: str, count: int) -> Iterator[Trial]:
    with start(driver(name).database) as database:
        how = {"arguments": arguments(name, database), "database": database.kind, "remedy": remedy, "spoils": spoils}
        for _ in range(count):
            yield Trial(facts=play("lab.scenes.context_scope", patience=120, requests=30, **how))
