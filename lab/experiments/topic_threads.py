"""Threads in the background under uWSGI: which of them work between requests, and in which process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from lab import load
from lab.evidence import Effort, arm, experiment
from lab.process import folder
from lab.servers import Uwsgi, uwsgi
from lab.shapes import Arm, Check, Role, Setup, Trial

APP = "lab.apps.topic_threads"
SWITCHED_OFF = "enable-threads = false"
OPTIONS: dict[str, Mapping[str, Any]] = {
    "as it comes": {},
    "enable-threads": {"enable-threads": True},
    SWITCHED_OFF: {},
    "lazy-apps": {"lazy-apps": True},
    "py-call-osafterfork": {"py-call-osafterfork": True},
}


@experiment("uwsgi-background-threads", uses=["lab/apps/topic_threads.py"])
def background_threads(effort: Effort) -> Iterator[Arm]:
    """Facts: ``listed``, whether ``threading.enumerate()`` in the worker names the thread; ``works_in``, the process in
    which it does what it is told between two requests."""
    for options in ("as it comes", "enable-threads", SWITCHED_OFF):
        checks = [Check("listed", "==", True), Check("works_in", "==", "master")]
        yield _arm("import", options, "hazard", checks, effort)
    checks = [Check("listed", "==", False), Check("works_in", "==", "master")]
    yield _arm("import", "py-call-osafterfork", "hazard", checks, effort)
    there = [Check("listed", "==", True), Check("works_in", "==", "worker")]
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
                settings = {"begins": begins}
                with uwsgi(APP, workers=1, settings=settings, options=more) as server:
                    yield _trial(server)

    setup = Setup(server="uwsgi", workers=1, moment=begins, mode=options)
    return arm(f"begun by {begins}, {options}", role, setup, checks, run)


def _trial(server: Uwsgi) -> Trial:
    for _ in range(2):
        worker = load.request(server.port, deadline=30).pid
    orders = os.open(server.home / "orders", os.O_RDWR)
    os.write(orders, b"!")
    did = server.process.wait_for(lambda: server.report("did"), "the thread's work")[0]["pid"]
    os.close(orders)
    works_in = {worker: "worker", server.master: "master"}.get(did, "another")
    return Trial(facts={"listed": server.report("request")[-1]["listed"], "works_in": works_in})
