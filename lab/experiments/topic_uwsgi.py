"""uWSGI's other switches: its own post-fork hook, ``import`` and its kin, ``need-app``, and threads."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lab import drivers, load, trials
from lab.databases import Database, free_port, start
from lab.evidence import Effort, arm, experiment
from lab.process import Kept, LabError, folder, kept, wait_until
from lab.servers import Uwsgi, uwsgi, uwsgi_binary
from lab.shapes import Arm, Check, Role, Setup, Trial

HOOKS, LATE, ASKS, THREADS = (f"lab.apps.{name}" for name in ("topic_hooks", "topic_late", "prefork", "topic_threads"))
USES = (*trials.SOURCES, "lab/apps/roles.py", "lab/apps/topic_hooks.py", "lab/apps/topic_late.py")
STACK = {"database": "postgresql", "driver": "psycopg2", "server": "uwsgi"}
RPC = {"hook-post-fork": "rpc:hook"}
NOT_FOUND = "hook action not found"


@experiment("uwsgi-hook-post-fork-workers-only", uses=USES)
def hook_post_fork(effort: Effort) -> Iterator[Arm]:
    """Facts: ``hook_in`` and ``postfork_in``, the kinds of process in which each ran; ``first``, which of the two came
    first in the workers; ``worker``, ``mule`` and ``spooler``, whose connection each spoke over.
    """
    every = {"postfork_in": "mule, spooler, worker", "first": "postfork"}
    own = {"worker": "own", "mule": "own", "spooler": "own"}
    left = {"worker": "own", "mule": "inherited", "spooler": "inherited"}
    none = {name: "inherited" for name in own}
    at_all = {**every, "hook_in": "worker"}
    yield _hooks("hook-post-fork disposes", "hazard", "hook", RPC, {**at_all, **left}, effort)
    print_ = {"hook-post-fork": "print:forked"}
    yield _hooks("hook-post-fork = print", "hazard", "hook", print_, {**none, "hook_in": ""}, effort)
    both = {**RPC, "hook-as-mule": "rpc:hook"}
    seen = {**every, "hook_in": "mule, worker", **left, "mule": "own"}
    yield _hooks("hook-post-fork and hook-as-mule dispose", "control", "hook", both, seen, effort)
    yield _hooks("@postfork disposes", "remedy", "postfork", RPC, {**at_all, **own}, effort)


def _hooks(
    name: str, role: Role, disposes: str, options: Mapping[str, str], values: Mapping[str, str], effort: Effort
) -> Arm:
    def run() -> Iterator[Trial]:
        with start("postgresql") as database:
            for _ in range(effort.pick(3, 1)):
                yield _hook_trial(database, disposes, options)

    checks = [Check(field, "==", value) for field, value in values.items()]
    return arm(name, role, Setup(**STACK, workers=1, remedy=name), checks, run)


def _hook_trial(database: Database, disposes: str, options: Mapping[str, str]) -> Trial:
    settings = {**_asks(database), "disposes": disposes}
    with (
        folder() as spool,
        uwsgi(HOOKS, workers=1, settings=settings, options={**options, "mule": True, "spooler": spool}) as server,
    ):
        server.process.wait_for(lambda: len(server.report("postfork")) == 3, "three processes")
        opened = {row["backend"]: row["pid"] for row in server.report("import")}
        for job in ("mule", "spooler"):
            load.request(server.port, f"/{job}")
            server.process.wait_for(lambda job=job: server.report(job), f"the {job}'s job")
        said = {job: server.report(job)[0] for job in ("mule", "spooler")}
        answer = load.request(server.port)
        said["worker"] = {"backend": answer.backend, "pid": answer.pid}
        whose = {
            job: "own" if opened.get(row["backend"], row["pid"]) == row["pid"] else "inherited"
            for job, row in said.items()
        }
        calls = [row for row in server.report() if row["event"] in ("hook", "postfork")]
        in_ = {f"{event}_in": _kinds(calls, event) for event in ("hook", "postfork")}
        first = next(row["event"] for row in calls if row["process"] == "worker")
        return Trial(facts={**whose, **in_, "first": first})


def _kinds(calls: list[dict[str, Any]], event: str) -> str:
    return ", ".join(sorted({row["process"] for row in calls if row["event"] == event}))


@experiment("uwsgi-hook-has-no-python", uses=USES)
def hook_has_no_python(effort: Effort) -> Iterator[Arm]:
    """Facts: ``said``, what uWSGI logs of the action; ``ends``, whether each new worker ends over it; ``served``,
    whether a request is answered."""
    for action in ("python:lab.apps.topic_hooks.called", "pycall:called"):
        missing = f"{NOT_FOUND}: {action.partition(':')[0]}"
        checks = [Check("said", "==", missing), Check("ends", "==", True), Check("served", "==", False)]
        yield _action(action, "hazard", checks, effort)
    checks = [Check("said", "==", ""), Check("ends", "==", False), Check("served", "==", True)]
    yield _action("rpc:hook", "remedy", checks, effort)


def _action(action: str, role: Role, checks: list[Check], effort: Effort) -> Arm:
    def run() -> Iterator[Trial]:
        with start("postgresql") as database:
            for _ in range(effort.pick(3, 1)):
                settings = {**_asks(database), "disposes": "hook", "workers": 1}
                with bare(HOOKS, settings, {"hook-post-fork": action}) as (process, port):
                    yield _action_trial(process, port)

    return arm(f"hook-post-fork = {action}", role, Setup(**STACK, workers=1, remedy=action), checks, run)


def _action_trial(process: Kept, port: int) -> Trial:
    def refused() -> list[str]:
        return [line for line in process.text().splitlines() if NOT_FOUND in line]

    process.wait_for(lambda: len(refused()) > 1 or "[rpc result" in process.text(), "the end of the hook")
    ends = len(refused()) > 1
    served = not ends and load.request(port, deadline=20).outcome.kind == "right"
    return Trial(facts={"said": refused()[0] if ends else "", "ends": ends, "served": served})


@experiment("uwsgi-import-before-the-fork", uses=USES)
def import_before_the_fork(effort: Effort) -> Iterator[Arm]:
    """Facts: ``imported_in``, where the module that asks was imported; ``own``, the workers of four that have a
    connection of their own. The application imports that module with its first request only."""
    in_master = [Check("imported_in", "==", "master"), Check("own", "==", 0)]
    in_each = [Check("imported_in", "==", "each worker"), Check("own", "==", 4)]
    yield _imports("import", "hazard", {"import": ASKS}, "none", in_master, effort)
    yield _imports("shared-import", "hazard", {"shared-import": ASKS}, "none", in_master, effort)
    both = {"lazy-apps": True, "shared-import": ASKS}
    yield _imports("lazy-apps, shared-import", "hazard", both, "none", in_master, effort)
    yield _imports("lazy-apps, import", "control", {"lazy-apps": True, "import": ASKS}, "none", in_each, effort)
    yield _imports("neither", "control", {}, "none", in_each, effort)
    cured = [Check("imported_in", "==", "master"), Check("own", "==", 4)]
    for name, options in (("import", {"import": ASKS}), ("lazy-apps, shared-import", both)):
        yield _imports(f"{name}, recipe", "remedy", options, "recipe uwsgi_postfork", cured, effort)


def _imports(
    name: str, role: Role, options: Mapping[str, Any], remedy: str, checks: list[Check], effort: Effort
) -> Arm:
    def run() -> Iterator[Trial]:
        with start("postgresql") as database:
            for _ in range(effort.pick(3, 1)):
                settings = {**_asks(database), "remedy": remedy}
                with uwsgi(LATE, workers=4, settings=settings, options=options) as server:
                    own = trials.own(server)
                    yield Trial(facts={"own": own, "imported_in": _imported_in(server)})

    setup = Setup(**STACK, workers=4, mode=name, remedy="" if remedy == "none" else remedy)
    return arm(name, role, setup, checks, run)


def _imported_in(server: Uwsgi) -> str:
    pids = {row["pid"] for row in server.report("import")}
    if pids == {server.master}:
        return "master"
    return "each worker" if pids == set(server.workers()) else f"{len(pids)} processes"


@experiment("uwsgi-need-app-ends-it", uses=USES)
def need_app_ends_it(effort: Effort) -> Iterator[Arm]:
    """Facts: ``ended``, whether uWSGI ended by itself, and ``code``, with what; ``answer``, what a request was told;
    ``tried_in``, in how many processes the application could not be loaded."""
    goes_on = [Check("ended", "==", False), Check("answer", "==", "Internal Server Error")]
    ends = [Check("ended", "==", True), Check("code", "==", 22)]
    for lazy, tried in (((), 1), (("lazy-apps",), 2)):
        name = ", ".join(lazy)
        goes = [*goes_on, Check("tried_in", "==", tried)]
        yield _unloadable(name or "neither", "hazard", [*lazy], goes, effort)
        yield _unloadable(", ".join([*lazy, "need-app"]), "remedy", [*lazy, "need-app"], ends, effort)


def _unloadable(name: str, role: Role, options: list[str], checks: list[Check], effort: Effort) -> Arm:
    def run() -> Iterator[Trial]:
        for _ in range(effort.pick(3, 1)):
            # Nobody listens there: the question that the application asks as it is imported fails.
            url = f"postgresql+psycopg2://lab@127.0.0.1:{free_port()}/postgres"
            settings = {"engine": {"url": url}, "database": "postgresql", "remedy": "none", "workers": 2}
            with bare(ASKS, settings, dict.fromkeys(options, True)) as (process, port):
                yield _unloadable_trial(process, port, options)

    return arm(name, role, Setup(**STACK, workers=2, mode=name), checks, run)


def _unloadable_trial(process: Kept, port: int, options: list[str]) -> Trial:
    def tried() -> int:
        return process.text().count("unable to load app")

    if "need-app" in options:
        with contextlib.suppress(LabError):
            wait_until(lambda: not process.running, "the end", 60)
    else:
        process.wait_for(lambda: tried() >= (2 if "lazy-apps" in options else 1), "each process to try", 60)
    if not process.running:
        return Trial(facts={"ended": True, "tried_in": tried(), "code": process.keeper.returncode, "answer": ""})
    answer = load.request(port, deadline=20).outcome.message
    return Trial(facts={"ended": not process.running, "tried_in": tried(), "code": None, "answer": answer})


@contextlib.contextmanager
def bare(app: str, settings: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[tuple[Kept, int]]:
    """uWSGI as :func:`lab.servers.uwsgi` starts it, without ``need-app``, and nobody waits for its workers."""
    with folder() as home:
        command = [uwsgi_binary(), "--master", "--disable-logging", "--home", sys.prefix, "--module", app]
        command += ["--processes", str(settings["workers"]), "--http-socket", "127.0.0.1:0"]
        for name, value in options.items():
            command += [f"--{name}"] if value is True else [f"--{name}", value]
        env = {"LAB_APP": json.dumps({**settings, "home": str(home)})}
        with kept(command, home, name="uWSGI", env=env, stop=signal.SIGKILL) as process:
            port = wait_until(lambda: _port(process), "a port")
            yield process, port


def _port(process: Kept) -> int:
    _, found, rest = process.text().partition("bound to TCP address 127.0.0.1:")
    return int(rest.split()[0]) if found and " " in rest else 0


def _asks(database: Database) -> dict[str, Any]:
    return {"engine": drivers.arguments("psycopg2", database), "database": "postgresql", "remedy": "none"}
