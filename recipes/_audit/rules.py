# SPDX-License-Identifier: 0BSD
"""What is unsafe where processes inherit what an import left: a function per finding, with its claim."""

from __future__ import annotations

from .judge import (
    MULES,
    RUNS_HANDLERS,
    Found,
    cures,
    goodbye,
    how_many,
    inherits,
    leaves_nothing,
    loads_first,
    rule,
)
from .shapes import Place, Settings

# The application is loaded before the fork

CHECK = "; or see with --import MODULE whether it connects"


@rule(
    "uWSGI loads the application before it forks, and nothing is seen that empties the pool after it",
    "uwsgi-lockups/uwsgi-prefork-breaks",
    "a query during the import leaves one connection that all workers use, and they read each other's answers",
    "lazy-apps = true; or install recipes/uwsgi_postfork.py, and say so in a comment: audit: uwsgi_postfork" + CHECK,
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and (place := inherits(s)):
        yield place, f"the application is loaded before the fork, for {how_many(s)}, without a hook that is seen"


@rule(
    "gunicorn preloads the application, and no `post_fork` is seen that empties the pool",
    "uwsgi-lockups/gunicorn-preload-breaks",
    "a query during the import leaves one connection in the arbiter that all workers use",
    f"preload_app = False; or take post_fork from recipes/gunicorn_postfork.py{CHECK}",
)
def _(s: Settings) -> Found:
    if s.server == "gunicorn" and (place := inherits(s)):
        yield (
            place,
            f"the application is loaded before the fork, for {how_many(s)}, without a post_fork that empties the pool",
        )


@rule(
    "Celery forks its prefork pool, an engine is made, and no `worker_process_init` is seen",
    "who-forks/forkers-share-the-connection",
    "a query in the main process, during the import or in a signal, leaves one connection that all its children use",
    f"install recipes/celery_postfork.py at the end of the module{CHECK}",
)
def _(s: Settings) -> Found:
    if s.server == "celery" and (place := inherits(s)):
        yield (
            place,
            f"an engine is there before Celery forks {how_many(s)}, and no worker_process_init empties its pool",
        )


@rule(
    "The import leaves a connection open (with `--import`)",
    "who-forks/preload-lazy-pool",
    "each worker finds it in its pool, and all use one socket",
    "do not connect during the import, or dispose() of the engine at its end, or take the recipe for your server",
)
def _(s: Settings) -> Found:
    if s.imported and inherits(s):
        for place in s.imported.opened_at:
            yield place, f"importing {s.imported.module} leaves the connection open that is opened here"


@rule(
    "The import leaves a connection checked out, or a Session in a transaction (with `--import`)",
    "fork-moments/fork-checked-out-escapes-dispose",
    "it stays on the parent's backend in every child; no dispose() and no recipe reaches it",
    "close the Session or Connection at the end of the import",
)
def _(s: Settings) -> Found:
    if s.imported and s.imported.checked_out and loads_first(s):
        sessions = f", {s.imported.in_transaction} by a Session in a transaction" if s.imported.in_transaction else ""
        where = next(iter(s.imported.opened_at), Place(s.imported.module, 1))
        yield where, f"importing {s.imported.module} leaves {s.imported.checked_out} checked out{sessions}"


@rule(
    "The import leaves threads running (with `--import`)",
    "fork-moments/fork-thread-holds-connection",
    "a connection that another thread holds at the fork is checked out for ever in the child",
    "start threads after the fork, in the server's hook; or give each child an empty pool by the server's recipe",
)
def _(s: Settings) -> Found:
    if s.imported and s.imported.threads and loads_first(s) and not cures(s):
        yield (
            Place(s.imported.module, 1),
            f"importing {s.imported.module} leaves threads: {', '.join(s.imported.threads)}",
        )


# What people take for a cure


@rule(
    "`close-on-exec` or `close-on-exec2`, where workers inherit",
    "uwsgi-lockups/uwsgi-non-cures",
    "it acts when another program is executed, and workers do not; they stay on the master's connection",
    "lazy-apps = true, or recipes/uwsgi_postfork.py",
)
def _(s: Settings) -> Found:
    for option in s.all("close-on-exec", "close-on-exec2"):
        if s.on(option.name) and s.server == "uwsgi" and inherits(s):
            yield option.where, f"{option.name} is no cure for an inherited connection"


@rule(
    "`pool_pre_ping`, `pool_recycle`, `pool_reset_on_return` or `AUTOCOMMIT`, where uWSGI's workers inherit",
    "uwsgi-lockups/uwsgi-non-cures",
    "the workers stay on the master's connection",
    "lazy-apps = true, or recipes/uwsgi_postfork.py",
)
def _(s: Settings) -> Found:
    for engine in s.code.engines if s.server == "uwsgi" and inherits(s) else ():
        taken = [name for name in ("pool_pre_ping", "pool_recycle", "pool_reset_on_return") if name in engine.keywords]
        taken += ["AUTOCOMMIT"] if engine.keywords.get("isolation_level") == "AUTOCOMMIT" else []
        if taken:
            yield engine.where, f"{', '.join(taken)} {'are' if taken[1:] else 'is'} no cure for an inherited connection"


@rule(
    "`py-call-osafterfork` or `py-call-uwsgi-fork-hooks`, and no handler is seen that it would call",
    "uwsgi-lockups/uwsgi-register-at-fork-needs-an-option",
    "the option runs the handlers of os.register_at_fork, and does nothing else for a pool",
    "lazy-apps = true, or recipes/uwsgi_postfork.py, which needs no such option",
)
def _(s: Settings) -> Found:
    for option in filter(None, map(s.on, RUNS_HANDLERS)):
        if s.server == "uwsgi" and inherits(s):
            yield option.where, f"{option.name} runs handlers, and none is seen that empties the pool"


@rule(
    "`os.register_at_fork` under uWSGI without the option that runs it",
    "uwsgi-lockups/uwsgi-register-at-fork-needs-an-option",
    "uWSGI forks in C and runs no handler of os.register_at_fork by itself",
    "py-call-osafterfork = true; or recipes/uwsgi_postfork.py instead of the handler",
)
def _(s: Settings) -> Found:
    for cure in s.code.cures:
        if cure.name == "after_in_child" and s.server == "uwsgi" and inherits(s):
            yield cure.where, "uWSGI does not call this handler after its forks"


# Those that come later


@rule(
    "Workers are replaced (`max-requests`, `harakiri`), where uWSGI's workers inherit",
    "uwsgi-lockups/uwsgi-respawn-inherits",
    "the worker that takes the place inherits the master's connection again",
    "lazy-apps = true, or recipes/uwsgi_postfork.py, which runs in it, too",
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and (option := s.on("max-requests") or s.on("harakiri")) and inherits(s):
        yield option.where, f"{option.name} replaces workers by others that inherit the same connection"


@rule(
    "Workers are replaced (`max_requests`, `worker_max_tasks_per_child`), where those of gunicorn or Celery inherit",
    "who-forks/forkers-respawn-inherits",
    "the child that takes the place inherits the parent's connection again",
    "the recipe for your server; it runs in that one, too",
)
def _(s: Settings) -> Found:
    option = s.on("max_requests") or s.on("worker_max_tasks_per_child")
    if s.server in ("gunicorn", "celery") and option and inherits(s):
        yield option.where, f"{option.name} replaces processes by others that inherit the same connection"


@rule(
    "`max-requests` with mysqlclient, where uWSGI's workers inherit",
    "uwsgi-lockups/uwsgi-recycling-says-goodbye",
    "workers that leave end the shared connection, and the first request of every later worker fails",
    "lazy-apps = true, or recipes/uwsgi_postfork.py",
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and (option := s.on("max-requests")) and inherits(s) and goodbye(s) == "mysqlclient":
        yield option.where, "a worker that leaves says goodbye to the database on the shared connection"


@rule(
    "Mules or a spooler, forked from a master that has loaded the application",
    "uwsgi-lockups/uwsgi-mules-spooler-cron",
    "they are forked as the workers are, and inherit the master's connection",
    "recipes/uwsgi_postfork.py or recipes/fork_safe_engine.py, which cover them",
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and loads_first(s) and not cures(s) and not leaves_nothing(s):
        for option in [option for option in s.all(*MULES) if s.on(option.name)][:1]:
            yield option.where, f"{option.name}: one more process inherits the connection"
