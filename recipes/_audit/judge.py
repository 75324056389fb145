# SPDX-License-Identifier: 0BSD
"""What a rule is, and what the rules ask of the settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .shapes import Cure, Engine, Place, Settings

Found = Iterator[tuple[Place, str]]


@dataclass(frozen=True)
class Rule:
    """One kind of finding. *claim* is the page and the claim's id on it."""

    title: str
    why: str
    remedy: str
    claim: str
    find: Callable[[Settings], Found]

    @property
    def address(self) -> str:
        page, _, claim = self.claim.partition("/")
        return f"/docs/{page}/#claim-{claim}"


RULES: list[Rule] = []
HOOK = {"uwsgi": "postfork", "gunicorn": "post_fork", "celery": "worker_process_init"}
EVERYWHERE = ("fork_safe_engine.protect", "guard")
CURES = {
    "uwsgi": ("postfork", "uwsgi_postfork.install", *EVERYWHERE),
    "gunicorn": ("post_fork", "gunicorn_postfork.post_fork", "after_in_child", *EVERYWHERE),
    "celery": (
        "worker_process_init",
        "celery_postfork.install",
        "multiprocessing_postfork.install",
        "after_in_child",
        *EVERYWHERE,
    ),
    "import": (),
}
# uWSGI runs Python's own handlers if it is told to.
RUNS_HANDLERS = ("py-call-osafterfork", "py-call-uwsgi-fork-hooks")
SAYS_GOODBYE = {"mysqldb": "mysqlclient", "mysqlconnector": "mysql-connector"}
MULES = ("mule", "mules", "farm", "spooler")
# Options that a rule asks for; of the others nobody needs to know whether they are known.
DECIDE = {
    "uwsgi": ("processes", "lazy", "lazy-apps", "hook-post-fork", *RUNS_HANDLERS, *MULES),
    "gunicorn": ("preload_app", "workers", "worker_class", "wsgi_app", "max_requests"),
    "celery": ("worker_pool", "worker_concurrency", "worker_pool_start_method", "worker_max_tasks_per_child"),
    "import": (),
}


def rule(title: str, claim: str, why: str, remedy: str) -> Callable[[Callable[[Settings], Found]], None]:
    """Add a rule to the table: the function under it yields where something is unsafe, and what."""
    return lambda find: RULES.append(Rule(title, why, remedy, claim, find))


# What the rules ask of the settings


def processes(s: Settings) -> int | None:
    """How many processes the server has, or ``None`` if that is not known here."""
    if s.server == "uwsgi":
        return s.number("processes", default=1)
    if s.server == "celery":
        return None if s.last("worker_autoscale") else s.number("worker_concurrency", default=None)
    return s.number("workers", default=None)


def how_many(s: Settings) -> str:
    count = processes(s)
    return f"{count} processes" if count else "a number of processes that is not known here"


def loads_first(s: Settings) -> Place | None:
    """Where it says that the application is loaded before the fork; ``None`` if it is not, or not known to be."""
    if s.server == "uwsgi":
        lazy = any(s.on(name) or s.undecided(name) for name in ("lazy", "lazy-apps"))
        written = s.last("processes") or s.last(*MULES)
        return written.where if written and not lazy and not s.on("emperor") else None
    if s.server == "gunicorn":
        preload = s.on("preload_app")
        return preload.where if preload else None
    if s.server == "celery":
        engine = next((engine.where for engine in s.code.engines), None)
        opened = next(iter(s.imported.opened_at), None) if s.imported else None
        return (opened or engine) if celery_forks(s) else None
    return next(iter(s.imported.opened_at), Place(s.source, 1)) if s.imported else None


def celery_forks(s: Settings) -> bool:
    pool, start = s.last("worker_pool"), s.last("worker_pool_start_method")
    return not (pool and pool.value not in ("prefork", "processes")) and not (start and start.value != "fork")


def cures(s: Settings) -> list[Cure]:
    """What gives each child of this server a pool of its own."""
    names = CURES[s.server]
    if any(s.on(name) for name in RUNS_HANDLERS):
        names += ("after_in_child",)
    found = [cure for cure in s.code.cures if cure.name in names]
    hook = s.on("hook-post-fork")
    found += [Cure("hook-post-fork", hook.where)] if hook else []
    # A file that was copied with its header says less than the application, where that was read and has an engine.
    return found + [word for word in s.words if not (word.name.startswith("Recipe") and s.code.engines)]


def inherits(s: Settings) -> Place | None:
    """Where it says that several processes inherit what the import left in the pool, and nothing cures that."""
    place = loads_first(s)
    return place if place and processes(s) != 1 and not cures(s) and not leaves_nothing(s) else None


def leaves_nothing(s: Settings) -> bool:
    """Tell whether it is known that the import leaves no connection in a pool."""
    if s.imported:
        return not s.imported.opened_at
    return bool(s.code.engines) and all(e.keywords.get("poolclass") == "NullPool" for e in s.code.engines)


def driver(engine: Engine) -> str:
    """The driver that SQLAlchemy takes for this URL, or nothing."""
    try:
        from sqlalchemy import make_url

        return make_url(engine.url).get_dialect().driver if engine.url else ""
    except Exception:  # No SQLAlchemy, a dialect that is not installed, no URL: not known.
        return ""


def goodbye(s: Settings) -> str:
    """The first of the drivers in use whose connections say goodbye when they are dropped."""
    return next((SAYS_GOODBYE[d] for d in map(driver, s.code.engines) if d in SAYS_GOODBYE), "")


def in_hooks(s: Settings, close: bool) -> list[Cure]:
    """The calls of ``dispose`` in what runs after the fork, of a server that loads first."""
    before = celery_forks(s) if s.server == "celery" else loads_first(s)
    if not before or (s.imported and leaves_nothing(s)):
        return []
    return [
        cure for cure in s.code.cures if cure.name in (HOOK.get(s.server), "after_in_child") and cure.close is close
    ]
