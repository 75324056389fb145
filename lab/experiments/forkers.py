"""Who forks, and what its children inherit: C11, C14, C15, C17 and C23 of the claims that are met in the field."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence

from lab import forkers
from lab.databases import Database, start
from lab.drivers import driver
from lab.evidence import Effort, arm, experiment
from lab.forklife import START_METHOD, live
from lab.shapes import Arm, Check, Role, Setup, Trial

# Whoever forks, with the recipe for it. The order is that of the rows on the page.
RECIPES = {
    "os.fork": "fork_safe_engine",
    "Process, fork": "multiprocessing_postfork",
    "Pool, fork": "multiprocessing_postfork",
    "ProcessPoolExecutor, fork": "multiprocessing_postfork",
    "Process, forkserver that preloads": "multiprocessing_postfork",
    "gunicorn --preload": "gunicorn_postfork",
    "gunicorn --preload --max-requests": "gunicorn_postfork",
    "uwsgi": "uwsgi_postfork",
    "Celery prefork": "celery_postfork",
    "RQ Worker": "rq_postfork",
    "APScheduler processes, fork": "multiprocessing_postfork",
}
FORK = tuple(RECIPES)
SPAWN = tuple(
    f"{kind}, {method}" for method in ("forkserver", "spawn") for kind in ("Process", "Pool", "ProcessPoolExecutor")
)
CELERY = ("Celery threads", "Celery gevent", "Celery solo")
OTHERS = ("gunicorn", *CELERY, "rq worker", "RQ SpawnWorker", "RQ SimpleWorker")
TIMERS = ("APScheduler processes", "APScheduler threads")

USES = [*forkers.SOURCES, "recipes/fork_safe_engine.py"]
POSTFORK = [f"recipes/{name}.py" for name in dict.fromkeys(RECIPES.values()) if name != "fork_safe_engine"]
PROTECT = "recipe fork_safe_engine"
CLEAN = Check("bad", "==", 0)
SHARED = [Check("inherited", "==", 2), Check("on_one_connection", "==", 2), CLEAN]
OWN = [Check("inherited", "==", 0), Check("inherited_again", "==", 0), Check("on_one_connection", "==", 1), CLEAN]
ALIVE, DEAD = Check("parent", "==", "alive"), Check("parent", "==", "dead")
Ask = Callable[[str], Database]

_lived: dict[Setup, Trial] = {}


def setup(name: str, client: str = "psycopg2", *, tls: bool = False, remedy: str = "none", moment: str = "") -> Setup:
    return Setup(driver(client).database, client, tls, name, remedy, moment=moment)


def lives(its: Iterable[Setup], role: Role, checks: Sequence[Check], database: Ask) -> Iterator[Arm]:
    for it in its:
        words = (it.server, it.driver, "TLS" if it.tls else "", it.moment, it.remedy if it.remedy != "none" else "")
        yield arm(", ".join(filter(None, words)), role, it, checks, lambda it=it: [_life(it, database)])


def _life(it: Setup, database: Ask) -> Trial:
    """Several claims rest on some of the runs, each of which is made once."""
    if it not in _lived:
        _lived[it] = live(it, database(it.database))
    return _lived[it]


@contextlib.contextmanager
def databases() -> Iterator[Ask]:
    """A function that starts each kind of database when it is first asked for. They take TLS and plain clients."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(start(kind, tls=True)))


@experiment("forkers-share-the-connection", uses=USES)
def share(effort: Effort) -> Iterator[Arm]:
    quiet = (*SPAWN, *OTHERS, *TIMERS) if effort.name == "record" else ("Process, spawn", "gunicorn", "RQ SimpleWorker")
    with databases() as database:
        yield from lives(map(setup, FORK[: effort.pick(11, 10)]), "hazard", SHARED, database)
        yield from lives(map(setup, quiet), "control", OWN, database)


@experiment("forkers-tls-makes-it-loud", uses=USES)
def loud(effort: Effort) -> Iterator[Arm]:
    fails = [Check("inherited", "==", 2), Check("errors_first", "==", 1), Check("wrong", "==", 0)]
    with databases() as database:
        for client, count in (("PyMySQL", effort.pick(11, 1)), ("psycopg2", effort.pick(2, 1))):
            yield from lives([setup(name, client, tls=True) for name in FORK[:count]], "hazard", fails, database)
            plain = [setup(name, client) for name in FORK[: effort.pick(2, 1)]]
            yield from lives(plain, "control", [*SHARED, Check("errors_first", "==", 0)], database)


@experiment("forkers-recipes-cure", uses=[*USES, *POSTFORK])
def cure(effort: Effort) -> Iterator[Arm]:
    clients = ("mysqlclient", "psycopg2", "mysql-connector")[: effort.pick(3, 1)]
    # With the other way to replace a worker, or to start a process, there is nothing more to be seen.
    names = [name for name in FORK if name not in ("Process, fork", "gunicorn --preload", FORK[-1])]
    with databases() as database:
        for client in clients:
            first = client == clients[0]
            hazards = names[: effort.pick(8 if first else 2, 2)]
            yield from lives([setup(name, client) for name in hazards], "hazard", SHARED[:1], database)
            its = [setup(name, client, remedy=f"recipe {RECIPES[name]}") for name in names[effort.pick(0, 1) :]]
            # Who forks makes no difference to this one, and other pages try it with every driver.
            its += [setup(name, client, remedy=PROTECT) for name in hazards[1:]]
            yield from lives(its, "remedy", [*OWN, ALIVE], database)


@experiment("forkers-hook-dispose", uses=USES)
def dispose(effort: Effort) -> Iterator[Arm]:
    clients = ("psycopg2", "mysqlclient", "mysql-connector")[: effort.pick(3, 2)]
    names = ("Pool, fork", "gunicorn --preload", "Celery prefork")[: effort.pick(3, 1)]
    with databases() as database:
        for remedy, role, check in (("dispose()", "hazard", DEAD), ("dispose(close=False)", "remedy", ALIVE)):
            its = [setup(name, client, remedy=remedy) for name in names for client in clients]
            yield from lives(its, role, [*OWN, check], database)


@experiment("at-fork-handlers-run", uses=USES)
def at_fork(effort: Effort) -> Iterator[Arm]:
    everything = [Check("at_fork_handlers", "==", "all three")]
    its = [name for name in FORK[: effort.pick(11, 10)] if name != "uwsgi"]
    with databases() as database:
        yield from lives([setup("uwsgi")], "hazard", [Check("at_fork_handlers", "==", "none")], database)
        yield from lives(map(setup, its), "control", everything, database)


@experiment("register-after-fork-runs", uses=USES)
def after_fork(effort: Effort) -> Iterator[Arm]:
    not_its = [name for name in FORK if name.startswith(("os.fork", "gunicorn", "uwsgi", "RQ"))]
    its = [name for name in FORK[: effort.pick(11, 10)] if name not in not_its]
    with databases() as database:
        yield from lives(map(setup, not_its), "hazard", [Check("register_after_fork", "==", False)], database)
        yield from lives(map(setup, its), "control", [Check("register_after_fork", "==", True)], database)


@experiment("forkers-respawn-inherits", uses=[*USES, *POSTFORK])
def respawn(effort: Effort) -> Iterator[Arm]:
    names = ["Pool, fork", "gunicorn --preload", "gunicorn --preload --max-requests", "uwsgi", "Celery prefork"]
    new = Check("replaced", "==", 2)
    with databases() as database:
        yield from lives(map(setup, names), "hazard", [new, Check("inherited_again", "==", 2)], database)
        yield from lives([setup("gunicorn")], "control", [new, *OWN], database)
        cured = [
            setup(name, "mysqlclient", remedy=f"recipe {RECIPES[name]}") for name in (names[0], names[2], names[4])
        ]
        yield from lives(cured, "remedy", [new, *OWN, ALIVE], database)


@experiment("celery-worker-process-init", uses=USES)
def process_init(effort: Effort) -> Iterator[Arm]:
    once = [Check("hook", "==", "worker_process_init"), Check("hook_in_parent", "==", 0), Check("replaced", "==", 2)]
    never = [Check("hook", "==", "none"), Check("hook_in_parent", "==", 0), Check("new_process", "==", "never")]
    here = [Check("hook", "==", "none"), Check("hook_in_parent", "==", 1), Check("new_process", "==", "never")]
    with databases() as database:
        yield from lives([setup(name) for name in CELERY[:2]], "hazard", never, database)
        yield from lives([setup(CELERY[2])], "hazard", here, database)
        yield from lives([setup("Celery prefork")], "control", once, database)


@experiment("preload-lazy-pool", uses=USES)
def preload(effort: Effort) -> Iterator[Arm]:
    asks = ("a health check in the application factory", "create_all", "reflection", "one SELECT")[: effort.pick(4, 2)]
    clients = ("psycopg2", "PyMySQL")[: effort.pick(2, 1)]
    with databases() as database:
        for client in clients:
            its = [setup("gunicorn --preload", client, moment=moment) for moment in asks]
            yield from lives(its, "hazard", SHARED, database)
            yield from lives([setup("gunicorn --preload", client, moment="import only")], "control", OWN, database)


@experiment("spawn-and-forkserver-share-nothing", uses=USES)
def share_nothing(effort: Effort) -> Iterator[Arm]:
    taken, refused = Check("hand_over", "==", "taken"), Check("hand_over", "!=", "taken")
    processes, pools = SPAWN[::3], [name for name in SPAWN if not name.startswith("Process,")]
    servers = ("gunicorn --preload", "Celery prefork")[: effort.pick(2, 1)]
    still = [setup(name, moment=f"{START_METHOD}spawn") for name in servers]
    with databases() as database:
        yield from lives([setup("Process, fork")], "hazard", [*SHARED, taken], database)
        yield from lives([setup("Process, forkserver that preloads"), *still], "hazard", SHARED, database)
        yield from lives(map(setup, processes), "control", [*OWN, refused], database)
        yield from lives(map(setup, pools[: effort.pick(4, 0)]), "control", OWN, database)
