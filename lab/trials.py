"""How a prefork server is tried: one fresh start, a load, and what became of clients, workers and master."""

from __future__ import annotations

import functools
import re
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager

from lab import load, procfs
from lab.databases import Database, start
from lab.drivers import DRIVERS, arguments, driver
from lab.remedies import REMEDIES
from lab.servers import Server, gunicorn, uwsgi
from lab.shapes import Setup, Survival, Trial

WORKERS, REQUESTS, CONCURRENCY = 4, 200, 8
APP = "lab.apps.prefork"
# The files that decide what these trials do, for the digests of the experiments.
SOURCES = ("lab/trials.py", "lab/remedies.py", "lab/apps/prefork.py", "lab/load.py")
NETWORK_DRIVERS = tuple(name for name, row in DRIVERS.items() if row.database in ("postgresql", "mariadb"))


def setup(driver_name: str, *, tls: bool = False, server: str = "uwsgi", remedy: str = "none") -> Setup:
    return Setup(
        driver(driver_name).database,
        driver_name,
        tls,
        server,
        remedy,
        WORKERS,
        requests=REQUESTS,
        concurrency=CONCURRENCY,
    )


def label(it: Setup) -> str:
    """The name of an arm: what tells it from its neighbours."""
    words = [it.driver, "TLS" if it.tls else "plain", "" if it.server == "uwsgi" else it.server, it.remedy]
    return ", ".join(word for word in words if word)


def serve(it: Setup, database: Database) -> AbstractContextManager[Server]:
    """Start the application as *it* says: uWSGI with the options of the remedy, or gunicorn with or without preload."""
    settings = {"engine": arguments(it.driver, database, tls=it.tls), "database": it.database, "remedy": it.remedy}
    if it.server == "uwsgi":
        return uwsgi(APP, workers=it.workers, settings=settings, options=REMEDIES[it.remedy].options)
    options = {"preload": True} if it.server == "gunicorn --preload" else {}
    return gunicorn(APP, workers=it.workers, settings=settings, options=options)


@functools.cache
def under_load(it: Setup, trials: int) -> tuple[Trial, ...]:
    """Fire the setup's requests at fresh starts; runs once per session for each setup, as several claims rest on it.

    Facts: ``stuck``, the hung workers of which the kernel and the server say that they wait for bytes that will never
    come; ``complaints`` and ``server_log``, how many lines the database server logged, and which.
    """
    return tuple(_under_load(it, trials))


def _under_load(it: Setup, trials: int) -> Iterator[Trial]:
    with start(it.database, tls=it.tls) as database:
        for _ in range(trials):
            before = len(database.log)
            with serve(it, database) as server:
                answers = load.fire(server.port, it.requests, concurrency=it.concurrency)
                facts = {"stuck": stuck(server, database)} if load.tally(answers).hung else {"stuck": 0}
                log = complaints(database.log[before:])
                facts |= {"complaints": sum(log.values()), "server_log": dict(log.most_common(4))}
                yield Trial(load.tally(answers), masters_connection(server, database), facts)
            database.check()


@functools.cache
def in_turn(it: Setup, trials: int, rounds: int = 1) -> tuple[Trial, ...]:
    """Have every worker of fresh starts ask once per round, one at a time.

    Facts: ``sharing``, the most processes that one connection served in the first round; ``errors_first`` and
    ``errors_last``, the errors of the first and the last round; ``owners``, the most processes that hold one socket to
    the database, master included.
    """
    return tuple(_in_turn(it, trials, rounds))


def _in_turn(it: Setup, trials: int, rounds: int) -> Iterator[Trial]:
    with start(it.database, tls=it.tls) as database:
        for _ in range(trials):
            with serve(it, database) as server:
                pids = [server.master, *server.workers()]
                held = procfs.owners(database.port, pids)
                calls = [roll_call(server) for _ in range(rounds)]
                facts = {
                    "sharing": load.sharing(calls[0]),
                    "errors_first": load.tally(calls[0]).error,
                    "errors_last": load.tally(calls[-1]).error,
                    "owners": max(map(len, held.values()), default=0),
                }
                answers = [answer for call in calls for answer in call]
                yield Trial(load.tally(answers), masters_connection(server, database), facts)
            database.check()


@functools.cache
def whole_life(it: Setup, trials: int) -> tuple[Trial, ...]:
    """Follow fresh starts through a worker's whole life: first question, load, full collection, exit, respawn.

    Facts: ``own`` and ``own_respawned``, how many of the four workers answered over a connection of their own, at
    first and after a respawn; ``died_at``, what ended the master's connection, if something did.
    """
    return tuple(_whole_life(it, trials))


def _whole_life(it: Setup, trials: int) -> Iterator[Trial]:
    with start(it.database, tls=it.tls) as database:
        for _ in range(trials):
            with serve(it, database) as server:
                fates = []

                def watch(what: str, server: Server = server, fates: list = fates) -> None:
                    fates.append((what, masters_connection(server, database)))

                facts: dict[str, object] = {"own": own(server)}
                watch("the first question")
                answers = load.fire(server.port, it.requests, concurrency=it.concurrency)
                watch("the requests")
                roll_call(server, "/roll/collect")
                watch("a full collection")
                server.respawn(signal.SIGHUP)
                watch("a worker's exit")
                facts["own_respawned"] = own(server)
                watch("a respawned worker's first question")
                died = [what for what, fate in fates if fate and fate.state == "dead"]
                facts["died_at"] = died[0] if died else ""
                yield Trial(load.tally(answers), fates[-1][1], facts)
            database.check()


@functools.cache
def first_question(it: Setup, trials: int) -> tuple[Trial, ...]:
    """Each worker of fresh starts asks once, in turn, then the load comes. Fact: ``own``, as in :func:`whole_life`."""
    return tuple(_first_question(it, trials))


def _first_question(it: Setup, trials: int) -> Iterator[Trial]:
    with start(it.database, tls=it.tls) as database:
        for _ in range(trials):
            with serve(it, database) as server:
                facts = {"own": own(server)}
                answers = load.fire(server.port, it.requests, concurrency=it.concurrency)
                yield Trial(load.tally(answers), masters_connection(server, database), facts)
            database.check()


def own(server: Server) -> int:
    """Call the roll, and count the workers that answered right over a connection that nobody else has."""
    answers = [answer for answer in roll_call(server) if answer.outcome.kind == "right"]
    masters = {row["backend"] for row in server.report("import") if row["pid"] == server.master}
    users = Counter(answer.backend for answer in answers)
    return len([answer for answer in answers if users[answer.backend] == 1 and answer.backend not in masters])


def roll_call(server: Server, path: str = "/roll") -> list[load.Answer]:
    """Every worker answers once, one after the other."""
    (server.home / "roll").unlink(missing_ok=True)
    return load.roll_call(server.port, WORKERS, path=path)


def masters_connection(server: Server, database: Database) -> Survival | None:
    """What the database says of the connection that the master opened during the import; None if workers import."""
    imports = server.report("import")
    if [row["pid"] for row in imports] != [server.master]:
        return None
    return Survival("alive" if imports[0]["backend"] in database.sessions() else "dead")


def stuck(server: Server, database: Database) -> int:
    """Count workers that are hung by all that can be known.

    They sleep in a read, the kernel holds no byte for them, and the server's end of the connection is idle: whatever
    they wait for has been sent, and somebody else has it.
    """
    busy = {row.backend for row in database.sessions().values() if row.busy}
    pids = [pid for pid in server.workers() if procfs.waits_in(pid)]
    rows = {row.inode: row for row in procfs.tcp()}
    # A worker at rest waits in epoll or accept for a request; a hung one waits in the driver.
    held = procfs.owners(database.port, pids)
    empty = {pid for inode, owners in held.items() if not rows[inode].unread for pid in owners}
    return len([pid for pid in empty if not busy and _waits_in_driver(server, pid)])


def _waits_in_driver(server: Server, pid: int) -> bool:
    workers = {worker["pid"]: worker for worker in server.status().get("workers", ())}
    return workers.get(pid, {}).get("status") == "busy"


def complaints(log: str) -> Counter[str]:
    """The warnings and errors of a database server's log, numbers masked."""
    telling = re.compile(r"(WARNING|ERROR|FATAL|unexpected EOF|SSL error|SSL SYSCALL|Aborted connection).*")
    found = (telling.search(line) for line in log.splitlines())
    return Counter(re.sub(r"\d+", "N", re.sub(r"\s+", " ", match[0])) for match in found if match)
