"""Which process does the work of a mule, the spooler, a timer and a cron job, and over whose connection."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab import drivers, load, trials
from lab.databases import Database, start
from lab.evidence import ROOT, Effort, arm, experiment
from lab.process import folder
from lab.remedies import REMEDIES
from lab.servers import Uwsgi, uwsgi
from lab.shapes import Arm, Check, Role, Setup, Trial

APP = "lab.apps.roles"
USES = (*trials.SOURCES, "lab/apps/roles.py", "recipes/uwsgi_postfork.py", "recipes/fork_safe_engine.py")
WORKERS = 2
JOBS = ("mule", "spooler", "timer", "cron")
# What uWSGI logs when a message reaches a process in which nothing has been loaded that could take it.
NOT_TAKEN = {
    "mule": "*** mule 1 received a 4 bytes message ***",
    "spooler": "unable to find the spooler function, have you loaded it into the spooler process ?",
}
# A mule without a file of its own knows what the master knew; an option whose value is optional wants it joined on.
PLAIN_MULE = {"mule": True}
LOADING_MULE = {f"mule={ROOT / 'lab/apps/roles.py'}": True}
OPTIONS = {
    "lazy-apps, shared-import": {**PLAIN_MULE, "shared-import": APP},
    "lazy-apps, mule=FILE, spooler-import": {**LOADING_MULE, "spooler-import": APP},
}


@experiment("uwsgi-mules-spooler-cron", seeds=("U5", "U7"), uses=USES)
def mules_spooler_cron(effort: Effort) -> Iterator[Arm]:
    """Each job's fact says whether it spoke over a connection of its own process or an ``inherited`` one; ``_in`` says
    which kind of process ran it."""
    inherited, own = ([Check(job, "==", which) for job in JOBS] for which in ("inherited", "own"))
    where = [
        Check("mule_in", "==", "mule"),
        Check("spooler_in", "==", "spooler"),
        Check("timer_in", "==", "worker"),
        Check("cron_in", "==", "worker"),
    ]
    yield _arm("none", "hazard", effort, *inherited, *where)
    yield _arm("lazy-apps, shared-import", "hazard", effort, *inherited, *where)
    yield _arm("lazy-apps, mule=FILE, spooler-import", "control", effort, *own, *where)
    yield _arm("@postfork, dispose(close=False)", "remedy", effort, *own, *where)
    yield _arm("recipe uwsgi_postfork", "remedy", effort, *own, *where)
    yield _arm("recipe fork_safe_engine", "remedy", effort, *own, *where)


@experiment("uwsgi-lazy-apps-empty-mules", seeds=("U5",), uses=USES)
def lazy_apps_empty_mules(effort: Effort) -> Iterator[Arm]:
    """Under ``lazy-apps`` only workers load the application: a mule and the spooler have nothing to do a job with."""
    yield _arm("lazy-apps", "hazard", effort, *(Check(job, "==", "not loaded") for job in ("mule", "spooler")))
    yield _arm("none", "control", effort, *(Check(job, "==", "inherited") for job in ("mule", "spooler")))
    loaded = (Check(job, "==", "own") for job in ("mule", "spooler"))
    yield _arm("lazy-apps, mule=FILE, spooler-import", "remedy", effort, *loaded)


def _arm(name: str, role: Role, effort: Effort, *checks: Check) -> Arm:
    setup = Setup("postgresql", "psycopg2", server="uwsgi", remedy=name, workers=WORKERS)
    return arm(name, role, setup, checks, lambda: _trials(setup, effort.pick(record=3, gate=1)))


@functools.cache
def _trials(setup: Setup, count: int) -> tuple[Trial, ...]:
    """*count* fresh starts; runs once per session for each setup, as both claims rest on some of them."""
    with start(setup.database) as database:
        return tuple(_trial(database, setup) for _ in range(count))


def _trial(database: Database, setup: Setup) -> Trial:
    loading = "lazy-apps" if setup.remedy in OPTIONS else setup.remedy
    settings = {"engine": drivers.arguments(setup.driver, database), "database": setup.database, "remedy": loading}
    with folder() as spool:
        options = {**REMEDIES[loading].options, **OPTIONS.get(setup.remedy, PLAIN_MULE), "spooler": spool}
        with uwsgi(APP, workers=WORKERS, settings=settings, options=options) as server:
            return Trial(facts={name: value for job in JOBS for name, value in _do(server, job).items()})


def _do(server: Uwsgi, job: str) -> dict[str, str]:
    load.request(server.port, f"/{job}")
    missed = NOT_TAKEN.get(job, "\0")
    server.process.wait_for(lambda: server.report(job) or missed in server.process.text(), f"{job} to run")
    if not server.report(job):
        return {job: "not loaded"}
    told = server.report(job)[0]
    opened_by = {row["backend"]: row["pid"] for row in server.report("import")}
    own = opened_by.get(told["backend"], told["pid"]) == told["pid"]
    return {job: "own" if own else "inherited", f"{job}_in": told["process"]}
