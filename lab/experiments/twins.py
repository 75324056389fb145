"""What looks like a crossed fork and is none: idle timeout, server restart, proxy. One backend id tells them apart."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lab import components
from lab.databases import Database, start
from lab.drivers import ALL_DRIVERS, arguments, driver, load
from lab.evidence import Effort, arm, experiment
from lab.process import folder, kept, play, unprivileged, wait_until
from lab.relay import relay
from lab.shapes import Arm, Check, Outcome, Setup, Survival, Tally, Trial

SCENE = "lab.scenes.twins"
USES = ["lab/scenes/twins.py", "lab/relay.py"]
DATABASES = ("postgresql", "mariadb")
# A session's own idle timeout, in the server's smallest unit that both have: a second.
TIGHTEN = {"postgresql": "set idle_session_timeout = '1s'", "mariadb": "set session wait_timeout = 1"}
STOP = {"postgresql": signal.SIGINT, "mariadb": signal.SIGTERM}
READY = {"postgresql": "ready to accept", "mariadb": "ready for connections"}
_played: dict[tuple[Any, ...], dict[str, Any]] = {}
TWINS = ("idle timeout", "server restart", "proxy closes", "proxy resets")
FORKS = ("fork, a child disposes", "fork, each asks, TLS")


@experiment("fork-twins-tell-apart", seeds=["F2"], uses=USES)
def tell_apart(effort: Effort) -> Iterator[Arm]:
    """Facts: ``shared_backend``, whether one backend was seen from two process ids; ``words``, whether all that a twin
    says is what a crossed fork says, too, with the same driver.
    """
    with _stage() as played:
        for name in _drivers():
            for cause in FORKS:
                checks = [Check("shared_backend", "==", True), Check("error", ">=", 1)]
                yield arm(
                    f"{name}, {cause}", "hazard", _setup(name, cause), checks, _trials(played, name, cause, effort)
                )
            for cause in TWINS[: effort.pick(4, 3)]:
                checks = [Check("shared_backend", "==", False), Check("error", ">=", 1)]
                yield arm(
                    f"{name}, {cause}", "control", _setup(name, cause), checks, _trials(played, name, cause, effort)
                )


@experiment("twins-cured-by-pre-ping", seeds=["F2"], uses=USES)
def pre_ping(effort: Effort) -> Iterator[Arm]:
    with _stage() as played:
        for name in _drivers():
            for cause in TWINS[: effort.pick(4, 1)]:
                hazard, remedy = _setup(name, cause), _setup(name, cause, "pool_pre_ping=True")
                run = _trials(played, name, cause, effort)
                yield arm(f"{name}, {cause}", "hazard", hazard, [Check("error", ">=", 1)], run)
                cured = [Check("error", "==", 0), Check("wrong", "==", 0), Check("shared_backend", "==", False)]
                run = _trials(played, name, cause, effort, pre_ping=True)
                yield arm(f"{name}, {cause}, pre-ping", "remedy", remedy, cured, run)
            for cause in (*FORKS, "fork, each asks")[-effort.pick(3, 1) :]:
                it = _setup(name, cause, "pool_pre_ping=True")
                run = _trials(played, name, cause, effort, pre_ping=True)
                checks = [Check("shared_backend", "==", True)]
                if cause == "fork, each asks":
                    checks += [Check("shared_to_the_end", "==", True), Check("error", "==", 0)]
                yield arm(f"{name}, {cause}, pre-ping", "hazard", it, checks, run)


def _drivers() -> list[str]:
    # Not those of event loops: a child that speaks on an inherited loop's connection shares the kernel's watch list
    # with its parent's loop, and both wait for ever, with no message to compare.
    return [name for name, row in ALL_DRIVERS.items() if row.database in DATABASES and not row.loop]


def _setup(name: str, cause: str, remedy: str = "none") -> Setup:
    forks = cause.startswith("fork")
    how = {"moment": "everything checked in" if forks else "no connection yet", "child": cause}
    return Setup(ALL_DRIVERS[name].database, name, cause.endswith("TLS"), "os.fork", remedy, workers=2, **how)


def _trials(played: Callable, name: str, cause: str, effort: Effort, *, pre_ping: bool = False) -> Callable:
    def run() -> Iterator[Trial]:
        load(name)
        kind = ALL_DRIVERS[name].database
        if _lacks_tls(kind, cause):
            components.need("postgresql-tls")
        forks = [] if pre_ping else [fork for fork in FORKS if not _lacks_tls(kind, fork)]
        for trial in range(effort.pick(2, 1)):
            said = {message for fork in forks for message in _messages(played(kind, fork, False, trial)[name])}
            yield _trial(played(kind, cause, pre_ping, trial)[name], cause, said)

    return run


def _lacks_tls(kind: str, cause: str) -> bool:
    return cause.endswith("TLS") and kind == "postgresql" and not components.find("postgresql-tls")


def _trial(rows: Sequence[dict[str, Any]], cause: str, said: set[str]) -> Trial:
    pids: dict[int, set[int]] = {}
    for pid, backend in (row["seen"] for row in rows):
        if backend:
            pids.setdefault(backend, set()).add(pid)
    last = {row["seen"][0]: row["seen"][1] for row in rows}
    facts: dict[str, Any] = {"shared_backend": any(len(some) > 1 for some in pids.values())}
    facts["shared_to_the_end"] = len(set(last.values())) == 1
    parent = [row["outcome"] for row in rows if row["who"] == "parent"]
    survival = None
    if parent:
        survival = Survival("alive") if parent[-1]["kind"] == "right" else Survival("dead", parent[-1]["message"])
    elif said:
        facts["words"] = "a fork's, too" if _messages(rows) <= said else "its own"
    return Trial(Tally.of([Outcome(**row["outcome"]) for row in rows]), survival, facts)


def _messages(rows: Sequence[dict[str, Any]]) -> set[str]:
    # Some name the server's port, which is another one through a proxy.
    said = {row["outcome"]["message"] for row in rows if row["outcome"]["kind"] == "error"}
    return {re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", message) for message in said}


@contextlib.contextmanager
def _stage() -> Iterator[Callable[..., dict[str, Any]]]:
    """A function from kind of database, cause, pre-ping and the trial's number to the rows of every driver of it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str) -> Database:
            return stack.enter_context(start(kind, tls=True))

        @functools.cache
        def restart(kind: str) -> Callable[[], None]:
            return stack.enter_context(_restartable(database(kind)))

        def played(*what: Any) -> dict[str, Any]:
            # Both claims rest on some of the runs, each of which is made once.
            if what not in _played:
                kind, cause, pre_ping, _ = what
                _played[what] = _play(database(kind), cause, pre_ping, lambda: restart(kind)())
            return _played[what]

        yield played


def _play(database: Database, cause: str, pre_ping: bool, restart: Callable[[], None]) -> dict[str, Any]:
    how = {"database": database.kind, "crossed": cause.startswith("fork"), "pre_ping": pre_ping, "end": "outside"}
    if how["crossed"]:
        how["end"] = "dispose" if "disposes" in cause else "none"
    elif cause == "idle timeout":
        how["tighten"] = TIGHTEN[database.kind]
    with relay(database.port) as proxy, folder() as home, ThreadPoolExecutor(1) as pool:
        end = {
            "server restart": restart,
            "proxy closes": lambda: proxy.hang_up("close"),
            "proxy resets": lambda: proxy.hang_up("reset"),
        }.get(cause, lambda: None)
        through = dataclasses.replace(database, port=proxy.port) if cause.startswith("proxy") else database
        engines = {}
        for name in _drivers():
            with contextlib.suppress(components.Missing):
                if driver(name).database == database.kind:
                    engines[name] = arguments(name, through, tls=cause.endswith("TLS"))
        scene = pool.submit(play, SCENE, engines=engines, home=str(home), **how)
        if not how["crossed"]:
            wait_until(lambda: (home / "ready").exists() or scene.done(), "both workers have asked")
            if not scene.done():
                end()
                _wait_until_gone(database, json.loads((home / "ready").read_text()))
                (home / "go").touch()
        return scene.result()["rows"]


def _wait_until_gone(database: Database, backends: Sequence[int]) -> None:
    def gone() -> bool:
        return not set(backends) & set(database.sessions())

    wait_until(gone, "the server has ended the connections")


@contextlib.contextmanager
def _restartable(database: Database) -> Iterator[Callable[[], None]]:
    """A function that stops the server as an administrator does and starts it again: same command, port and data."""
    server = database.server
    home = server.log.parent
    command = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")[:-1]
    with contextlib.ExitStack() as stack:

        def restart() -> None:
            nonlocal server
            os.kill(server.pid, STOP[database.kind])
            old = server
            wait_until(lambda: not old.running, f"the end of {old.name}")
            log = home / f"again-{len(list(home.glob('again-*')))}.log"
            how = {"name": old.name, "user": unprivileged(), "stop": STOP[database.kind], "log": log}
            server = stack.enter_context(kept(command, home, **how))
            server.wait_for(lambda: READY[database.kind] in server.text(), "restart")

        yield restart
