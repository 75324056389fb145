"""The source's symptom under real servers: a change that only the interpreter that wrote it can see (I1, I2)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

from lab.databases import Database, start
from lab.evidence import Effort, arm, experiment
from lab.interpreters import (
    SOURCES,
    ask,
    begin_anew,
    change,
    count,
    create,
    judged,
    look,
    manner,
    on,
    reload,
    serve,
    setup,
    stored,
)
from lab.servers import Server, need_uwsgi_from_source
from lab.shapes import Arm, Check, Setup, Trial

APACHE = "apache + mod_wsgi"
DAEMON = setup(APACHE, "daemon", 4)
GUNICORN = setup("gunicorn", "sync", 4)
UWSGI = setup("uwsgi", "processes", 4)
EMBEDDED = setup(APACHE, "embedded", 4)
# The last three only for the record: they differ from others of theirs in the number alone, or in the forking.
SERVERS = (
    DAEMON,
    setup(APACHE, "daemon", 2, 5),
    EMBEDDED,
    setup(APACHE, "embedded", 2, 5),
    GUNICORN,
    setup("gunicorn", "gthread", 1, 4),
    setup("uwsgi", "threads", 1, 4),
    UWSGI,
    setup("uwsgi", "lazy-apps", 4),
    setup(APACHE, "daemon", 1, 5),
)
REQUESTS = 40
ALL_RIGHT = [Check("wrong", "==", 0), Check("raw_stale", "==", 0)]


@experiment("stale-n-minus-1", seeds=["I1"], uses=SOURCES)
def n_minus_1(effort: Effort) -> Iterator[Arm]:
    where = [on(it, "mariadb", held="released") for it in SERVERS[: effort.pick(10, 7)]]
    where += [on(it, "postgresql", held="held") for it in (DAEMON, GUNICORN, UWSGI)[: effort.pick(3, 1)]]

    def round(server: Server, database: Database, it: Setup) -> Trial:
        begin_anew(server, database, it)
        return change(server, database, it)

    for it, role, trials in _with_and_without(where, round, effort.pick(10, 2)):
        n = count(it)
        all_but_one = [Check("wrong", "==", n - 1), Check("right", "==", 1), Check("writer_is_right", "==", True)]
        checks = all_but_one if role == "hazard" else [*ALL_RIGHT, Check("right", "==", n)]
        yield arm(_name(it), role, it, checks, trials)


@experiment("stale-alternates", seeds=["I1"], uses=SOURCES)
def alternates(effort: Effort) -> Iterator[Arm]:
    """Facts: ``sequence``, the answers that one visitor got, ``o`` for the old and ``N`` for the new; ``bodies``, how
    many different ones those were.
    """
    where = [on(DAEMON, "mariadb", held="released"), on(DAEMON, "postgresql", held="held")][: effort.pick(2, 1)]
    for it, role, trials in _with_and_without(where, _visit, effort.pick(5, 2)):
        # Which process takes the next request is Apache's business; that one of them takes all is not ruled out.
        hazard = [Check("bodies", "==", 2, "some"), Check("bodies", "<=", 2), Check("total", "==", REQUESTS)]
        remedy = [Check("bodies", "==", 1), Check("wrong", "==", 0), Check("total", "==", REQUESTS)]
        it = dataclasses.replace(it, requests=REQUESTS, concurrency=1)
        yield arm(_name(it), role, it, hazard if role == "hazard" else remedy, trials)


@experiment("stale-reload-cures", seeds=["I2"], uses=SOURCES)
def reload_cures(effort: Effort) -> Iterator[Arm]:
    servers = (DAEMON, EMBEDDED, GUNICORN, UWSGI)[: effort.pick(4, 1)]
    with _databases() as database:
        for it in (on(it, "mariadb", held="released") for it in servers):
            seen = functools.cache(functools.partial(_reloads, database, it, effort.pick(3, 1)))
            n = count(it)
            for step, role, wrong in (
                ("a change", "hazard", n - 1),
                ("a reload", "remedy", 0),
                ("the next change", "hazard", n - 1),
            ):
                checks = [Check("wrong", "==", wrong), Check("total", "==", n)]
                checks += [Check("new_processes", "==", it.workers)] if step == "a reload" else []
                yield arm(
                    f"{_name(it)}, after {step}",
                    role,
                    dataclasses.replace(it, moment=f"after {step}", remedy="reload" if role == "remedy" else "none"),
                    checks,
                    lambda seen=seen, step=step: seen()[step],
                )


def _visit(server: Server, database: Database, it: Setup) -> Trial:
    begin_anew(server, database, it)
    ask(server, "/write", body="new", remove=manner(it)["remove"])
    answers = [ask(server, **manner(it)) for _ in range(REQUESTS)]
    trial = judged(answers, stored(database))
    sequence = "".join("N" if answer.orm == "new" else "o" for answer in answers)
    bodies = len({answer.orm for answer in answers})
    return dataclasses.replace(trial, facts={**trial.facts, "sequence": sequence, "bodies": bodies})


def _reloads(database: Callable[[str], Database], it: Setup, trials: int) -> dict[str, list[Trial]]:
    if it.server == "uwsgi":
        need_uwsgi_from_source()
    seen: dict[str, list[Trial]] = {"a change": [], "a reload": [], "the next change": []}
    running = database(it.database)
    with serve(it, running) as server:
        for _ in range(trials):
            begin_anew(server, running, it)
            seen["a change"].append(change(server, running, it))
            old = set(server.workers())
            server = reload(server)
            after = look(server, running, it)
            replaced = len(set(server.workers()) - old)
            seen["a reload"].append(dataclasses.replace(after, facts={**after.facts, "new_processes": replaced}))
            seen["the next change"].append(change(server, running, it, "newer"))
    return seen


def _with_and_without(
    where: Sequence[Setup], round: Callable[[Server, Database, Setup], Trial], trials: int
) -> Iterator[tuple[Setup, str, Callable[[], list[Trial]]]]:
    """Setup, role and trials of every server, without a remedy and with it; one start serves both."""
    with _databases() as database:
        for it in where:
            both = [dataclasses.replace(it, remedy=remedy) for remedy in ("none", "remove()")]

            @functools.cache
            def played(it=it, both=both) -> list[list[Trial]]:
                with serve(it, running := database(it.database)) as server:
                    return [[round(server, running, one) for _ in range(trials)] for one in both]

            yield both[0], "hazard", lambda played=played: played()[0]
            yield both[1], "remedy", lambda played=played: played()[1]


@contextlib.contextmanager
def _databases() -> Iterator[Callable[[str], Database]]:
    """A function from a kind of database to one that runs, with the page in it."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def database(kind: str) -> Database:
            create(running := stack.enter_context(start(kind)))
            return running

        yield database


def _name(it: Setup) -> str:
    how = f"{it.server}, {it.mode}, {it.workers} x {it.threads}"
    return ", ".join(filter(None, (how, it.database, it.held, "" if it.remedy == "none" else it.remedy)))
