"""What prefork saves in memory against lazy loading, how much of that lasts, and what misleads in measuring it (U6).

All figures are in MB. The proportional set size (PSS) shares a page out among the processes that map it, so that a sum
over processes counts it once; the resident set size (RSS) counts it for each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from lab import load, procfs
from lab.evidence import Effort, arm, experiment
from lab.servers import Uwsgi, uwsgi
from lab.shapes import Arm, Check, Role, Setup, Trial
from lab.trials import WORKERS, roll_call

APP = "lab.apps.memory"
USES = ("lab/apps/memory.py", "lab/load.py", "lab/procfs.py")
ARTICLES, REQUESTS = 60_000, 200
# What is done before each measurement: each stage builds on the one before.
STAGES = {
    "idle": lambda server: [],
    "served": lambda server: load.fire(server.port, REQUESTS, concurrency=WORKERS),
    "collected": lambda server: roll_call(server, "/collect"),
    "read": lambda server: roll_call(server, "/read"),
}


@experiment("uwsgi-lazy-costs-memory", seeds=("U6",), uses=USES)
def lazy_costs_memory(effort: Effort) -> Iterator[Arm]:
    """``copies``: what the idle workers take together, in sizes of one."""
    yield _arm("lazy-apps", "hazard", effort, Check("times_prefork", ">=", 1.5), Check("copies", ">=", 2.5))
    yield _arm("prefork", "control", effort, Check("copies", "<=", 1.5))


@experiment("uwsgi-collection-ends-sharing", seeds=("U6",), uses=USES)
def collection_ends_sharing(effort: Effort) -> Iterator[Arm]:
    """``collecting``: what the workers take after each has run ``gc.collect()``, in sizes of what they took before."""
    yield _arm("prefork", "hazard", effort, Check("collecting", ">=", 1.5))
    yield _arm("lazy-apps", "control", effort, Check("collecting", "<=", 1.2))
    yield _arm("prefork, gc.freeze()", "remedy", effort, Check("collecting", "<=", 1.2))


@experiment("uwsgi-reading-ends-sharing", seeds=("U6",), uses=USES)
def reading_ends_sharing(effort: Effort) -> Iterator[Arm]:
    """``reading``: what the workers take after each has read all data, in sizes of what they took before."""
    yield _arm("prefork, gc.freeze()", "hazard", effort, Check("reading", ">=", 1.5))
    yield _arm("lazy-apps", "control", effort, Check("reading", "<=", 1.2))


@experiment("uwsgi-rss-misleads", seeds=("U6",), uses=USES)
def rss_misleads(effort: Effort) -> Iterator[Arm]:
    """``rss_to_pss``: the sums over the idle workers."""
    yield _arm("prefork", "hazard", effort, Check("rss_to_pss", ">=", 2))
    yield _arm("lazy-apps", "control", effort, Check("rss_to_pss", "<=", 1.5))


def _arm(name: str, role: Role, effort: Effort, *checks: Check) -> Arm:
    remedy = {"prefork": "none", "prefork, gc.freeze()": "gc.freeze()"}.get(name, name)
    setup = Setup(server="uwsgi", remedy=remedy, workers=WORKERS, requests=REQUESTS, concurrency=WORKERS)
    checks += (Check("bad", "==", 0),)
    return arm(name, role, setup, checks, lambda: _trials(name, effort.pick(record=3, gate=1)))


@functools.cache
def _trials(name: str, count: int) -> tuple[Trial, ...]:
    """Measure *count* fresh starts; runs once per session, as several claims rest on it."""
    trials = [_trial(name) for _ in range(count)]
    if name == "lazy-apps":
        others = _trials("prefork", count)
        for trial, other in zip(trials, others, strict=True):
            trial.facts["times_prefork"] = round(trial.facts["pss_idle"] / other.facts["pss_idle"], 2)
    return tuple(trials)


def _trial(name: str) -> Trial:
    settings = {"articles": ARTICLES, "freeze": "gc.freeze()" in name}
    options = {"lazy-apps": True} if name == "lazy-apps" else {}
    answers, facts = [], {}
    with uwsgi(APP, workers=WORKERS, settings=settings, options=options) as server:
        for stage, prepare in STAGES.items():
            answers += prepare(server)
            facts |= {f"{measure}_{stage}": value for measure, value in _measure(server).items()}
    facts |= {
        "copies": round(facts["pss_idle"] / (facts["rss_idle"] / WORKERS), 2),
        "collecting": round(facts["pss_collected"] / facts["pss_served"], 2),
        "reading": round(facts["pss_read"] / facts["pss_collected"], 2),
        "rss_to_pss": round(facts["rss_idle"] / facts["pss_idle"], 2),
    }
    return Trial(load.tally(answers), facts=facts)


def _measure(server: Uwsgi) -> dict[str, float]:
    """Sums over the workers (``pss``, ``rss``), and over workers and master (``pss_with_master``)."""
    workers = [procfs.memory(pid) for pid in server.workers()]
    pss, rss = (sum(worker[kind] for worker in workers) / 1e6 for kind in ("pss", "rss"))
    master = procfs.memory(server.master)["pss"] / 1e6
    return {"pss": round(pss, 1), "pss_with_master": round(pss + master, 1), "rss": round(rss, 1)}
