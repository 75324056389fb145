# SPDX-License-Identifier: 0BSD
"""What is unsafe besides: what is no worker, reloads, what a hook does to the parent, greenlets, and sizes of pools."""

from __future__ import annotations

from .judge import (
    MULES,
    SAYS_GOODBYE,
    Found,
    cures,
    driver,
    goodbye,
    in_hooks,
    leaves_nothing,
    loads_first,
    processes,
    rule,
)
from .shapes import Settings


@rule(
    "`shared-import` with mules or a spooler, under `lazy-apps`",
    "uwsgi-lockups/uwsgi-mules-spooler-cron",
    "the master imports that module before it forks, and mules and the spooler inherit its connection",
    "mule = FILE and spooler-import = MODULE instead; or recipes/uwsgi_postfork.py in that module",
)
def _(s: Settings) -> Found:
    option = s.on("shared-import") if s.server == "uwsgi" and s.on("lazy-apps") and any(map(s.on, MULES)) else None
    if option and not cures(s) and not leaves_nothing(s):
        yield option.where, "shared-import loads the module before the fork of what is no worker"


@rule(
    "`shared-import` with several workers, under `lazy-apps`",
    "uwsgi-switches/uwsgi-import-before-the-fork",
    "the master imports that module before it forks, and what it connects all workers share, lazy-apps or not",
    "import = MODULE instead, which each worker does by itself; or recipes/uwsgi_postfork.py in that module",
)
def _(s: Settings) -> Found:
    option = s.on("shared-import") if s.server == "uwsgi" and s.on("lazy-apps") and processes(s) != 1 else None
    if option and not any(map(s.on, MULES)) and not cures(s) and not leaves_nothing(s):
        yield option.where, "shared-import loads the module before the fork of the workers"


@rule(
    "`hook-post-fork` with mules or a spooler, and no other hook",
    "uwsgi-switches/uwsgi-hook-post-fork-workers-only",
    "it runs in the workers only, and mules and the spooler go on over the master's connection",
    "recipes/uwsgi_postfork.py, whose hook runs in every process",
)
def _(s: Settings) -> Found:
    hook = s.on("hook-post-fork") if s.server == "uwsgi" and loads_first(s) else None
    if hook and any(map(s.on, MULES)) and {"hook-post-fork"} == {cure.name for cure in cures(s)}:
        yield hook.where, "hook-post-fork does not run in mules and the spooler"


@rule(
    "`hook-post-fork` with an action that uWSGI does not have",
    "uwsgi-switches/uwsgi-hook-has-no-python",
    "no action of that name is found, and every new worker ends over it",
    "recipes/uwsgi_postfork.py; or rpc:NAME, for a function that the application registers",
)
def _(s: Settings) -> Found:
    for hook in s.all("hook-post-fork") if s.server == "uwsgi" else ():
        if str(hook.value).partition(":")[0] in ("python", "pycall"):
            yield hook.where, f"uWSGI has no action {str(hook.value).partition(':')[0]}"


@rule(
    "`lazy-apps` with mules or a spooler that are given nothing to load",
    "uwsgi-lockups/uwsgi-lazy-apps-empty-mules",
    "with lazy-apps nothing loads the application into them: they have nothing to do a job with",
    "mule = FILE, and spooler-import = MODULE",
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and s.on("lazy-apps"):
        for option in s.all(*MULES):
            bare = (option.name, option.value) in [
                ("mule", ""),
                ("mule", "true"),
                ("mule", "1"),
            ] or option.name == "mules"
            if bare or (option.name == "spooler" and not s.last("spooler-import", "shared-import")):
                yield option.where, f"{option.name} has no application under lazy-apps"


@rule(
    "`lazy` instead of `lazy-apps`",
    "uwsgi-lockups/uwsgi-lazy-reload",
    "on a reload the master stays as it is, and a changed option is not taken up",
    "lazy-apps = true instead",
)
def _(s: Settings) -> Found:
    if s.server == "uwsgi" and (option := s.on("lazy")):
        yield option.where, "lazy cures the workers, and changes what a reload does"


# What the hook does to the parent


@rule(
    "`dispose()` without `close=False` in a hook of uWSGI's",
    "uwsgi-lockups/uwsgi-dispose-kills-the-master",
    "it says goodbye to the database on the socket that the master still has, with every driver",
    "recipes/uwsgi_postfork.py; or dispose(close=False), if the driver is neither mysqlclient nor mysql-connector",
)
def _(s: Settings) -> Found:
    for cure in in_hooks(s, close=True) if s.server == "uwsgi" else ():
        yield cure.where, "dispose() in the worker ends the master's connection"


@rule(
    "`dispose()` without `close=False` in a hook of gunicorn's or Celery's",
    "who-forks/forkers-hook-dispose",
    "it says goodbye to the database on the socket that the parent still has",
    "the recipe for your server; or dispose(close=False), if the driver is neither mysqlclient nor mysql-connector",
)
def _(s: Settings) -> Found:
    for cure in in_hooks(s, close=True) if s.server in ("gunicorn", "celery") else ():
        yield cure.where, "dispose() in the child ends the parent's connection"


@rule(
    "`dispose(close=False)` in a hook of uWSGI's, with mysqlclient or mysql-connector",
    "uwsgi-lockups/uwsgi-close-false-spares-the-master",
    "with these two the inherited connection says goodbye when its last reference goes",
    "recipes/uwsgi_postfork.py, which keeps one",
)
def _(s: Settings) -> Found:
    for cure in in_hooks(s, close=False) if s.server == "uwsgi" and goodbye(s) else ():
        yield cure.where, f"dispose(close=False) does not spare the master's connection with {goodbye(s)}"


@rule(
    "`dispose(close=False)` in a hook of gunicorn's or Celery's, with mysqlclient or mysql-connector",
    "who-forks/forkers-hook-dispose",
    "with these two the inherited connection says goodbye when its last reference goes",
    "the recipe for your server, which keeps one",
)
def _(s: Settings) -> Found:
    for cure in in_hooks(s, close=False) if s.server in ("gunicorn", "celery") and goodbye(s) else ():
        yield cure.where, f"dispose(close=False) does not spare the parent's connection with {goodbye(s)}"


@rule(
    "SQLAlchemy's documented pid guard under uWSGI, with mysqlclient or mysql-connector",
    "uwsgi-lockups/uwsgi-pid-guard-spares-the-master",
    "it lets go of the inherited connection at the first checkout, and these two then say goodbye",
    "recipes/fork_safe_engine.py, which keeps it",
)
def _(s: Settings) -> Found:
    for cure in s.code.cures:
        if cure.name == "guard" and s.server == "uwsgi" and loads_first(s) and goodbye(s):
            yield cure.where, f"this guard does not spare the master's connection with {goodbye(s)}"


# Greenlets, and the size of the pools


@rule(
    "gevent with psycopg2 or mysqlclient",
    "event-loops/greenlet-freezes-with-psycopg2",
    "when one greenlet has a row locked and another wants it, the whole process stands still",
    "psycopg or PyMySQL instead; or, for psycopg2, a wait callback",
)
def _(s: Settings) -> Found:
    for option in [s.on("gevent"), s.last("worker_class"), s.last("worker_pool")]:
        for engine in s.code.engines if option and "gevent" in (option.name, str(option.value).split(".")[0]) else ():
            name = driver(engine)
            if name == "mysqldb" or (name == "psycopg2" and not s.code.waits_for_greenlets):
                yield (
                    engine.where,
                    f"{SAYS_GOODBYE.get(name, name)} does not yield to other greenlets, and {s.server} runs gevent",
                )


@rule(
    "The pools of all processes may open more than `--max-connections`",
    "connection-pool/pool-budget-against-the-server",
    "the server refuses each connection above its limit, when the load is highest",
    "lower pool_size or max_overflow, start fewer processes, or check it at the start with recipes/pool_budget.py",
)
def _(s: Settings) -> Found:
    count, pools = processes(s), [e for e in s.code.engines if not e.keywords.get("poolclass")]
    sizes = [(e.keywords.get("pool_size", 5), e.keywords.get("max_overflow", 10)) for e in pools]
    known = count and s.max_connections and all(isinstance(n, int) and n >= 0 for size in sizes for n in size)
    if known and pools and count * sum(map(sum, sizes)) > s.max_connections:
        each = " + ".join(f"({size} + {overflow})" for size, overflow in sizes)
        yield pools[0].where, f"{count} processes x {each} = {count * sum(map(sum, sizes))}, of {s.max_connections}"
