"""Every interpreter of a server, one by one and all at once: which of them answers with what (``lab.apps.stale``).

An interpreter is what the source document calls so: a process, or a thread of one.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import signal
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlencode

from lab.apache import Apache, apache
from lab.databases import Database
from lab.drivers import arguments
from lab.process import LabError
from lab.scenes.staleness import WAL
from lab.servers import Server, Uwsgi, gunicorn, uwsgi
from lab.shapes import Outcome, Setup, Tally, Trial

APP = "lab.apps.stale"
# The files that decide what these functions do, for the digests of the experiments.
SOURCES = ("lab/interpreters.py", "lab/apps/stale.py")
DRIVERS = {"postgresql": "psycopg", "mariadb": "PyMySQL", "sqlite": "sqlite"}
# What a Session has when nobody asks for anything else.
DEFAULT = {"postgresql": "READ COMMITTED", "mariadb": "REPEATABLE READ", "sqlite": "driver's default"}
_meetings = itertools.count(1)


def setup(server: str, mode: str, processes: int, threads: int = 1, **more: str) -> Setup:
    """How a server is started; *more* says what it works on, and how."""
    return Setup(server=server, mode=mode, workers=processes, threads=threads, **more)


def on(it: Setup, database: str, isolation: str = "", **more: str) -> Setup:
    """The same server on *database*, at its default isolation unless another is named."""
    isolation = isolation or DEFAULT[database]
    return dataclasses.replace(it, database=database, driver=DRIVERS[database], isolation=isolation, **more)


def count(it: Setup) -> int:
    """How many interpreters it has."""
    return it.workers * it.threads


def serve(it: Setup, database: Database) -> AbstractContextManager[Server]:
    """Start the application as *it* says.

    Raises:
        components.Missing: the server is not there.
        LabError: it does not start.
    """
    engine = arguments(it.driver, database)
    if it.isolation.isupper() and it.isolation != DEFAULT[it.database]:
        engine["isolation_level"] = it.isolation
    settings = {"engine": engine, "sqlite_begins": it.isolation == WAL}
    if it.server == "gunicorn":
        options = {"worker-class": it.mode, **({"threads": it.threads} if it.mode == "gthread" else {})}
        return gunicorn(APP, workers=it.workers, settings=settings, options=options)
    if it.server == "uwsgi":
        options = {"threads": {"threads": it.threads}, "lazy-apps": {"lazy-apps": True}}.get(it.mode, {})
        return uwsgi(APP, workers=it.workers, settings=settings, options=options)
    return apache(APP, mode=it.mode, processes=it.workers, threads=it.threads, settings=settings)


@dataclasses.dataclass(frozen=True)
class Answer:
    """Which interpreter answered, and the page's body as its Session has it: the object's, and a plain SELECT's."""

    interpreter: tuple[int, int]
    orm: str = ""
    raw: str = ""


def ask(server: Server, path: str = "/", **query: Any) -> Answer:
    """Send one request. A value of False leaves its name out of the query.

    Raises:
        LabError: the answer is an error, which the message quotes, or does not come within 100 seconds.
    """
    words = urlencode({name: value for name, value in query.items() if value is not False})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}?{words}", timeout=100) as response:
            body = json.load(response)
    except urllib.error.HTTPError as problem:
        raise LabError(f"{path} failed: {problem.read().decode(errors='replace')[:300]}") from None
    except OSError as problem:
        raise LabError(f"{path} was not answered: {problem}") from None
    return Answer((body["pid"], body["thread"]), body.get("orm", ""), body.get("raw", ""))


def ask_each(server: Server, number: int, path: str = "/", **query: Any) -> list[Answer]:
    """Have each of *number* interpreters answer exactly once: the application holds all requests until all have one.

    Raises:
        LabError: as for :func:`ask`, or others than *number* interpreters have answered.
    """
    how = {"meet": f"meeting-{next(_meetings)}", "of": number, **query}
    with ThreadPoolExecutor(number) as pool:
        answers = [one.result() for one in [pool.submit(ask, server, path, **how) for _ in range(number)]]
    if len({answer.interpreter for answer in answers}) != number:
        raise LabError(f"{number} requests at once, and not one for each interpreter: {answers}")
    return answers


def manner(it: Setup) -> dict[str, Any]:
    """What the application is told with each request."""
    return {"held": it.held == "held", "remove": it.remedy == "remove()"}


def begin_anew(server: Server, database: Database, it: Setup) -> None:
    """Let every interpreter forget its Session, store "old", and let every interpreter read it."""
    ask_each(server, count(it), "/forget")
    store(database, "old")
    if odd := [a for a in ask_each(server, count(it), **manner(it)) if (a.orm, a.raw) != ("old", "old")]:
        raise LabError(f"the page is old, and the first to read it read {odd}")


def change(server: Server, database: Database, it: Setup, body: str = "new") -> Trial:
    """Write *body* through one interpreter, then :func:`look`. Fact: ``writer_is_right``."""
    writer = ask(server, "/write", body=body, remove=manner(it)["remove"]).interpreter
    answers = ask_each(server, count(it), **manner(it))
    trial = judged(answers, truth := stored(database))
    fresh = [answer.interpreter for answer in answers if answer.orm == answer.raw == truth]
    return dataclasses.replace(trial, facts={**trial.facts, "writer_is_right": writer in fresh})


def look(server: Server, database: Database, it: Setup) -> Trial:
    """Have every interpreter answer once, and hold that against what is stored, as :func:`judged` does."""
    return judged(ask_each(server, count(it), **manner(it)), stored(database))


def judged(answers: list[Answer], truth: str) -> Trial:
    """Hold *answers* against the *truth*; the tally counts what the objects say.

    Facts: ``orm_stale`` and ``raw_stale``, how many answers were something else, by the object and by a plain SELECT.
    """
    stale = {
        "orm_stale": sum(answer.orm != truth for answer in answers),
        "raw_stale": sum(answer.raw != truth for answer in answers),
    }
    return Trial(Tally.of(Outcome("right" if answer.orm == truth else "wrong") for answer in answers), facts=stale)


def reload(server: Server) -> Server:
    """Do what the server's own command for a graceful reload does; return the server as it can be reached now."""
    if isinstance(server, Apache):
        server.reload()
        return server
    old = server.workers()
    os.kill(server.master, signal.SIGHUP)
    server.wait_for_workers(len(old), other_than=old)
    if isinstance(server, Uwsgi):
        # A master that is executed anew binds its socket anew.
        ports = re.findall(r"bound to TCP address 127\.0\.0\.1:(\d+)", server.process.text())
        return dataclasses.replace(server, port=int(ports[-1]))
    return server


def create(database: Database) -> None:
    """Make the table of one page."""
    database.ask(f"create table {_page(database)} (id int primary key, body varchar(50) not null)")
    database.ask(f"insert into {_page(database)} values (1, 'old')")


def store(database: Database, body: str) -> None:
    database.ask(f"update {_page(database)} set body = '{body}'")


def stored(database: Database) -> str:
    """The page's body as a connection of the lab's own reads it."""
    return database.ask(f"select body from {_page(database)}")[0][0]


def _page(database: Database) -> str:
    return "lab.page" if database.kind == "mariadb" else "page"
