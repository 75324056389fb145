"""Threads in the background under uWSGI: which of them run between requests, and which are not there at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab import load
from lab.evidence import Effort, arm, experiment
from lab.process import LabError, folder, wait_until
from lab.servers import Uwsgi, uwsgi
from lab.shapes import Arm, Check, Role, Setup, Trial

APP = "lab.apps.topic_threads"
SWITCHED_OFF = "enable-threads = false"
OPTIONS: dict[str, Mapping[str, Any]] = {
    "as it comes": {},
    "enable-threads": {"enable-threads": True},
    SWITCHED_OFF: {},
    "lazy-apps": {"lazy-apps": True},
}
TICKS = 5


@experiment("uwsgi-background-threads", uses=["lab/apps/topic_threads.py"])
def background_threads(effort: Effort) -> Iterator[Arm]:
    """Facts: ``alive``, whether the worker of a request has the thread; ``runs``, whether that thread went on between
    two requests; ``master_runs``, whether the master's does, if it has one."""
    there = [Check("alive", "==", True), Check("runs", "==", True), Check("master_runs", "==", False)]
    gone = [Check("alive", "==", False), Check("runs", "==", False)]
    for options in ("as it comes", "enable-threads", SWITCHED_OFF):
        yield _arm("import", options, "hazard", gone, effort)
    for options in ("as it comes", "enable-threads", SWITCHED_OFF):
        yield _arm("request", options, "control", there, effort)
    yield _arm("@postfork", "as it comes", "remedy", there, effort)
    yield _arm("import", "lazy-apps", "remedy", there, effort)


def _arm(begins: str, options: str, role: Role, checks: list[Check], effort: Effort) -> Arm:
    def run() -> Iterator[Trial]:
        for _ in range(effort.pick(3, 1)):
            with folder() as home:
                more = dict(OPTIONS[options])
                if options == SWITCHED_OFF:
                    # On the command line the option takes no value.
                    (home / "uwsgi.ini").write_text(f"[uwsgi]\n{SWITCHED_OFF}\n")
                    more["ini"] = home / "uwsgi.ini"
                with uwsgi(APP, workers=1, settings={"begins": begins}, options=more) as server:
                    yield _trial(server)

    setup = Setup(server="uwsgi", workers=1, moment=begins, mode=options)
    return arm(f"begun by {begins}, {options}", role, setup, checks, run)


def _trial(server: Uwsgi) -> Trial:
    for _ in range(2):
        worker = load.request(server.port, deadline=30).pid
    alive = server.report("request")[-1]["alive"]
    runs = _goes_on(server, worker, 10 if alive else 1)
    return Trial(facts={"alive": alive, "runs": runs, "master_runs": _goes_on(server, server.master, 1)})


def _goes_on(server: Uwsgi, pid: int, seconds: float) -> bool:
    def ticks() -> int:
        return sum(row["pid"] == pid for row in server.report("tick"))

    before = ticks()
    try:
        return wait_until(lambda: ticks() > before + TICKS, "a thread", seconds)
    except LabError:
        return False
