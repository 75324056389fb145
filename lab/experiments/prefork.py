"""One connection opened at import, four prefork workers: what clients see, and why (U1, U2, U4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lab.evidence import Effort, arm, experiment
from lab.shapes import Arm, Check, Role, Setup
from lab.trials import NETWORK_DRIVERS, SOURCES, in_turn, label, setup, under_load

HAZARDS = [setup(name, tls=tls) for tls in (False, True) for name in NETWORK_DRIVERS]
CURED = [setup(name, remedy="lazy-apps") for name in NETWORK_DRIVERS]
CLEAN = [Check("bad", "==", 0), Check("total", ">=", 1)]
ROUNDS = 4


def _loaded(its: Iterable[Setup], role: Role, checks: Sequence[Check], effort: Effort) -> Iterator[Arm]:
    for it in its:
        trials = effort.pick(20, 3) if role == "hazard" else effort.pick(3, 1)
        yield arm(label(it), role, it, checks, lambda it=it, trials=trials: under_load(it, trials))


def _called(its: Iterable[Setup], role: Role, checks: Sequence[Check], effort: Effort) -> Iterator[Arm]:
    for it in its:
        yield arm(label(it), role, it, checks, lambda it=it: in_turn(it, effort.pick(3, 1), ROUNDS))


@experiment("uwsgi-prefork-breaks", seeds=["U1"], uses=SOURCES)
def breaks(effort: Effort) -> Iterator[Arm]:
    yield from _loaded(HAZARDS, "hazard", [Check("bad", ">=", 1, "some")], effort)
    yield from _loaded(CURED, "control", CLEAN, effort)


@experiment("uwsgi-first-bad-answer", seeds=["U2"], uses=SOURCES)
def first_bad_answer(effort: Effort) -> Iterator[Arm]:
    yield from _loaded(HAZARDS, "hazard", [Check("first_bad", "<=", 10, "some")], effort)
    yield from _loaded(CURED, "control", CLEAN, effort)


@experiment("uwsgi-wrong-rows", seeds=["U1"], uses=SOURCES)
def wrong_rows(effort: Effort) -> Iterator[Arm]:
    yield from _loaded([setup("psycopg")], "hazard", [Check("wrong", ">=", 1, "some")], effort)
    yield from _loaded([setup("psycopg", remedy="lazy-apps")], "control", CLEAN, effort)


@experiment("uwsgi-lockup", seeds=["U1"], uses=SOURCES)
def lockup(effort: Effort) -> Iterator[Arm]:
    checks = [Check("hung", ">=", 1, "some"), Check("stuck", ">=", 1, "some")]
    yield from _loaded([setup("psycopg")], "hazard", checks, effort)
    yield from _loaded([setup("psycopg", remedy="lazy-apps")], "control", [*CLEAN, Check("stuck", "==", 0)], effort)


@experiment("uwsgi-server-log", seeds=["U4"], uses=SOURCES)
def server_log(effort: Effort) -> Iterator[Arm]:
    its = [setup("psycopg2"), setup("psycopg2", tls=True), setup("PyMySQL", tls=True)]
    yield from _loaded(its, "hazard", [Check("complaints", ">=", 1, "some")], effort)
    cured = [setup("psycopg2", remedy="lazy-apps"), setup("PyMySQL", remedy="lazy-apps")]
    yield from _loaded(cured, "control", [*CLEAN, Check("complaints", "==", 0)], effort)


@experiment("uwsgi-sequential-plain-is-silent", seeds=["U2"], uses=SOURCES)
def sequential_plain(effort: Effort) -> Iterator[Arm]:
    plain = [setup(name) for name in NETWORK_DRIVERS]
    yield from _called(plain, "hazard", [Check("bad", "==", 0), Check("sharing", "==", 4)], effort)
    yield from _called(CURED, "control", [Check("bad", "==", 0), Check("sharing", "==", 1)], effort)


@experiment("uwsgi-sequential-tls-fails", seeds=["U2", "U4"], uses=SOURCES)
def sequential_tls(effort: Effort) -> Iterator[Arm]:
    over_tls = [setup(name, tls=True) for name in NETWORK_DRIVERS]
    silent = [Check("wrong", "==", 0), Check("hung", "==", 0)]
    checks = [Check("errors_first", "==", 3), Check("errors_last", "==", 0), *silent]
    yield from _called(over_tls, "hazard", checks, effort)
    cured = [setup(name, tls=True, remedy="lazy-apps") for name in NETWORK_DRIVERS]
    yield from _called(cured, "control", [Check("errors_first", "==", 0), *silent], effort)


@experiment("uwsgi-one-socket-five-owners", seeds=["U4"], uses=SOURCES)
def one_socket(effort: Effort) -> Iterator[Arm]:
    plain = [setup(name) for name in NETWORK_DRIVERS]
    yield from _called(plain, "hazard", [Check("owners", "==", 5)], effort)
    yield from _called(CURED, "control", [Check("owners", "==", 1)], effort)


@experiment("gunicorn-preload-breaks", seeds=["U1"], uses=SOURCES)
def gunicorn_preload(effort: Effort) -> Iterator[Arm]:
    names = ["psycopg2", "psycopg", "PyMySQL"]
    preload = [setup(name, server="gunicorn --preload") for name in names]
    yield from _called(preload, "hazard", [Check("sharing", "==", 4), Check("owners", "==", 5)], effort)
    each = [setup(name, server="gunicorn") for name in names]
    yield from _called(each, "control", [Check("sharing", "==", 1), Check("bad", "==", 0)], effort)
