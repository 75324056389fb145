"""What a worker inherits when uWSGI starts it anew, and what `lazy` and `lazy-apps` do on a reload."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import signal
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lab import drivers, load, trials
from lab.databases import Database, start
from lab.evidence import Effort, arm, experiment
from lab.process import folder
from lab.remedies import REMEDIES
from lab.servers import Uwsgi, need_uwsgi_from_source, uwsgi
from lab.shapes import Arm, Check, Setup, Trial
from lab.trials import APP, WORKERS, roll_call

USES = (*trials.SOURCES, "recipes/uwsgi_postfork.py", "recipes/fork_safe_engine.py")
CURES = ("@postfork, dispose(close=False)", "recipe uwsgi_postfork", "recipe fork_safe_engine")


# A worker leaves after its second answer, and is ended when it has not answered for three seconds. Without the second
# option uWSGI would let every worker live for ten seconds.
OPTIONS = {"max-requests": 2, "min-worker-lifetime": 0, "harakiri": 3}


def _keep_waiting(server: Uwsgi) -> None:
    # Whoever holds this lock has the turn: every worker waits for it for ever.
    with (server.home / "turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        roll_call(server)


# What makes the master start all workers anew, once each of them has answered once.
TRIGGERS = {"SIGKILL": Uwsgi.respawn, "harakiri": _keep_waiting, "max-requests": roll_call}


@experiment("uwsgi-respawn-inherits", seeds=("U5", "U7"), uses=USES)
def respawn_inherits(effort: Effort) -> Iterator[Arm]:
    """Let uWSGI start all workers anew, for each reason that it may have, and see over which connections they answer.

    The fact named after a trigger is the largest number of new workers that answered over one connection.
    """
    for remedy in ("none", "lazy-apps", *CURES):
        role = {"none": "hazard", "lazy-apps": "control"}.get(remedy, "remedy")
        setup = Setup("postgresql", "psycopg2", server="uwsgi", remedy=remedy, workers=WORKERS)
        expected = WORKERS if role == "hazard" else 1
        checks = [Check("bad", "==", 0), *(Check(trigger, "==", expected) for trigger in TRIGGERS)]
        yield arm(remedy, role, setup, checks, functools.partial(_trials, effort, setup, TRIGGERS))


@experiment("uwsgi-recycling-says-goodbye", seeds=("U7",), uses=USES)
def recycling_says_goodbye(effort: Effort) -> Iterator[Arm]:
    """Let workers that share mysqlclient's connection leave in an orderly way, and ask those that take their place.

    The driver says goodbye to the server when its connection is freed at the worker's exit. The master then hands a
    dead connection to every worker that it forks from there on, and the first request of each fails.
    """
    arms = (
        ("max-requests", "mysqlclient", "none", "hazard", Check("error", "==", WORKERS)),
        ("SIGKILL", "mysqlclient", "none", "control", Check("bad", "==", 0)),
        ("max-requests", "psycopg2", "none", "control", Check("bad", "==", 0)),
        *(("max-requests", "mysqlclient", cure, "remedy", Check("bad", "==", 0)) for cure in CURES),
    )
    for trigger, driver, remedy, role, check in arms:
        setup = Setup(drivers.driver(driver).database, driver, server="uwsgi", remedy=remedy, workers=WORKERS)
        run = functools.partial(_trials, effort, setup, [trigger])
        yield arm(f"{driver}, {trigger}, {remedy}", role, setup, (check,), run)


def _trials(effort: Effort, setup: Setup, triggers: Iterable[str]) -> Iterator[Trial]:
    with start(setup.database) as database:
        for _ in range(effort.pick(record=3, gate=1)):
            yield _start_anew(database, setup, triggers)


def _start_anew(database: Database, setup: Setup, triggers: Iterable[str]) -> Trial:
    settings = {
        "engine": drivers.arguments(setup.driver, database),
        "database": setup.database,
        "remedy": setup.remedy,
    }
    options = {**REMEDIES[setup.remedy].options, **OPTIONS}
    answers, facts = [], {}
    with uwsgi(APP, workers=WORKERS, settings=settings, options=options) as server:
        roll_call(server)
        for trigger in triggers:
            old = server.workers()
            TRIGGERS[trigger](server)
            server.wait_for_workers(WORKERS, other_than=old)
            answers += (new := roll_call(server))
            facts[trigger] = load.sharing(new)
    return Trial(load.tally(answers), facts=facts)


@experiment("uwsgi-lazy-reload", seeds=("U5",), uses=("lab/remedies.py",))
def lazy_reload(effort: Effort) -> Iterator[Arm]:
    """Change the code and an option, send the master SIGHUP, and see which of the two the new workers know.

    ``restarts`` counts how often uWSGI began anew, by its log.
    """
    anew = (Check("restarts", "==", 1), Check("code", "==", "new"), Check("option", "==", "new"))
    kept = (Check("restarts", "==", 0), Check("code", "==", "new"), Check("option", "==", "old"))
    for mode, role, checks in (("lazy", "hazard", kept), ("lazy-apps", "control", anew), ("prefork", "control", anew)):
        remedy = "none" if mode == "prefork" else mode
        setup = Setup(server="uwsgi", remedy=remedy, workers=2)
        yield arm(mode, role, setup, checks, functools.partial(_reloads, effort, REMEDIES[remedy].options))


def _reloads(effort: Effort, options: Mapping[str, object]) -> Iterator[Trial]:
    need_uwsgi_from_source()
    for _ in range(effort.pick(record=5, gate=1)):
        with folder() as place:
            _write_release(place, "old")
            everything = {**options, "pythonpath": place, "ini": place / "uwsgi.ini"}
            with uwsgi("release", workers=2, options=everything) as server:
                old = server.workers()
                _write_release(place, "new")
                os.kill(server.master, signal.SIGHUP)
                server.wait_for_workers(2, other_than=old)
                yield Trial(facts=_release_seen(server))


def _write_release(place: Path, release: str) -> None:
    code = f"""
        import os
        def application(environ, start_response):
            start_response("200 OK", [])
            return ["{release} ".encode() + os.environ["RELEASE"].encode()]
    """
    # Python would take yesterday's bytecode for today's if source files of the same second had the same size.
    padding = "#" * (release == "new")
    (place / "release.py").write_text("\n".join(line[8:] for line in code.splitlines()) + padding)
    (place / "uwsgi.ini").write_text(f"[uwsgi]\nenv = RELEASE={release}\n")


def _release_seen(server: Uwsgi) -> dict[str, object]:
    log = server.process.text()
    # A master that is executed anew binds its socket anew.
    port = re.findall(r"bound to TCP address 127\.0\.0\.1:(\d+)", log)[-1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
        code, option = response.read().decode().split()
    return {"restarts": log.count("*** Starting uWSGI") - 1, "code": code, "option": option}
