# SPDX-License-Identifier: 0BSD
# Recipe: pool_budget, version 1 (Forks, Threads and Sessions, /docs/recipes/#pool-budget)
"""Fail at start-up when the pools of all processes may open more connections than the server takes.

Problem: every process has a pool of its own for every engine, so 8 workers with SQLAlchemy's default pool may open
8 x (5 + 10) = 120 connections. A PostgreSQL as it comes takes 100, and refuses the others when the load is highest:
"FATAL: sorry, too many clients already".

Use it when: an application on PostgreSQL, MariaDB or MySQL starts, or its processes do. On SQLite there is nothing to
check.
Not when: a pooler such as PgBouncer lies between: SQL cannot ask for its limits.

Compared are workers x connections of every engine's pool, plus ``others``, with what the server takes: of PostgreSQL
``max_connections`` without those reserved for superusers, and the limits of the role and of the database; of MariaDB
and MySQL ``max_connections`` and ``max_user_connections``; less the connections that other accounts have now. Those of
this account are taken for workers of this application; if they are another's, ``others`` is to count them.
While workers are replaced, old and new ones are there at once: let ``workers`` count both. The connection that asks is
closed and does not go to the pool, so that a process may fork afterwards.

>>> from sqlalchemy import create_engine
>>> from sqlalchemy.pool import QueuePool
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> check(engine, workers=8)
'nothing to check with sqlite'
>>> compare([engine], 17, "max_connections 20 - 3 reserved", workers=1, threads=10)
'pools: 1 workers x (5 + 10) = 15 connections; server: max_connections 20 - 3 reserved = 17'
>>> compare([engine], 17, "max_connections 20 - 3 reserved", workers=2)  # doctest: +ELLIPSIS
Traceback (most recent call last):
    ...
pool_budget.PoolBudgetExceeded: pools: 2 workers x (5 + 10) = 30 connections; server: max_connections 20 - 3 ...

Tested with SQLAlchemy 2.0 and 2.1, on PostgreSQL 15 and MariaDB. How the server keeps some for itself:
https://www.postgresql.org/docs/current/runtime-config-connection.html
"""

import logging

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.pool import AssertionPool, QueuePool, SingletonThreadPool, StaticPool

log = logging.getLogger("pool_budget")
CHECKED = ("postgresql", "mysql", "mariadb")


class PoolBudgetExceeded(RuntimeError):
    """The pools may open more connections than the server takes."""


def check(*engines, workers: int, threads: int | None = None, others: int = 0) -> str:
    """Ask the server of the first of *engines*, which all lead to the same, and return the arithmetic in a line.

    Args:
        workers: how many processes there are at a time, each with these engines.
        threads: how many connections a process uses at a time, at most; needed where the pool sets no limit.
        others: connections to keep free for anybody else.

    Raises:
        PoolBudgetExceeded: the pools may open more than the server takes.
        ValueError: no engine is given, *workers* is below 1, or a pool has no limit and *threads* is not given.
        TypeError: an AsyncEngine was given; :func:`check_async` takes these.
    """
    _need(engines)
    if any(hasattr(engine, "sync_engine") for engine in engines):
        raise TypeError("an AsyncEngine cannot be asked here: use await check_async(...)")
    if engines[0].dialect.name not in CHECKED:
        return f"nothing to check with {engines[0].dialect.name}"
    with engines[0].connect() as connection:
        limit, words = _limit(connection)
    return compare(engines, limit, words, workers=workers, threads=threads, others=others)


async def check_async(*engines, workers: int, threads: int | None = None, others: int = 0) -> str:
    """As :func:`check`, for AsyncEngines."""
    _need(engines)
    if engines[0].dialect.name not in CHECKED:
        return f"nothing to check with {engines[0].dialect.name}"
    async with engines[0].connect() as connection:
        limit, words = await connection.run_sync(_limit)
    return compare(engines, limit, words, workers=workers, threads=threads, others=others)


def _need(engines) -> None:
    if not engines:
        raise ValueError("no engine is given")


def compare(engines, limit: int, words: str, *, workers: int, threads: int | None = None, others: int = 0) -> str:
    """Compare the pools of *engines* in all *workers* with *limit*, of which *words* say how it came about."""
    if workers < 1 or others < 0 or (threads is not None and threads < 1):
        raise ValueError("workers and threads have to be at least 1, and others at least 0")
    pools = [_most(getattr(engine, "sync_engine", engine).pool, threads) for engine in engines]
    total = workers * sum(count for count, _ in pools) + others
    counted = f"{workers} workers x ({' + '.join(word for _, word in pools)})"
    asked = f"pools: {counted}{f' + {others} others' if others else ''} = {total} connections"
    line = f"{asked}; server: {words} = {limit}"
    if total > limit:
        raise PoolBudgetExceeded(
            f"{line}: {total - limit} too many; lower pool_size or max_overflow, start fewer workers, raise the "
            "server's limit, or put a pooler between"
        )
    for count, _ in pools:
        if threads is not None and threads > count:
            log.warning(
                "%d threads share a pool of %d: some wait, and pool_timeout is their limit; if each needs a second "
                "connection while it has one, all can wait for one another",
                *(threads, count),
            )
    return line


def _most(pool, threads: int | None) -> tuple[int, str]:
    """How many connections *pool* may have open at a time, and how that is told."""
    if isinstance(pool, QueuePool) and pool.size() > 0 and pool._max_overflow > -1:
        return pool.size() + pool._max_overflow, f"{pool.size()} + {pool._max_overflow}"
    if isinstance(pool, (StaticPool, AssertionPool)):
        return 1, "1"
    if isinstance(pool, SingletonThreadPool):
        return pool.size, str(pool.size)
    kind = type(pool).__name__
    if threads is None:
        raise ValueError(f"{kind} sets no limit here: say by threads=... how many connections a process uses at a time")
    log.warning("%s sets no limit here: a leak of connections ends only where the server's do", kind)
    return threads, f"{threads} threads"


def _limit(connection: Connection) -> tuple[int, str]:
    ask = _postgresql if connection.dialect.name == "postgresql" else _mysql
    limits, others = ask(connection)
    # Closed with the block, instead of going back to the pool.
    connection.detach()
    name, limit = min(limits.items(), key=lambda item: item[1])
    # What other accounts have counts against the whole server's limit, and not against one account's own.
    if name.startswith("max_connections") and others:
        return limit - others, f"{name} - {others} of other accounts"
    return limit, name


def _postgresql(connection: Connection) -> tuple[dict[str, int], int]:
    question = "select name, setting from pg_settings where name in (%s)"
    names = "'max_connections', 'superuser_reserved_connections', 'reserved_connections'"
    found = {name: int(value) for name, value in connection.execute(text(question % names))}
    top = found.pop("max_connections")
    kept = sum(found.values())
    limits = {f"max_connections {top} - {kept} reserved": top - kept}
    for name, question in {
        "connection limit of the role": "select rolconnlimit from pg_roles where rolname = current_user",
        "connection limit of the database": "select datconnlimit from pg_database where datname = current_database()",
    }.items():
        own = connection.scalar(text(question))
        limits |= {name: own} if own >= 0 else {}
    others = "select count(*) from pg_stat_activity where usename <> current_user and datname is not null"
    return limits, connection.scalar(text(others))


def _mysql(connection: Connection) -> tuple[dict[str, int], int]:
    top, own = connection.execute(text("select @@global.max_connections, @@session.max_user_connections")).one()
    limits = {f"max_connections {top}": top, **({"max_user_connections": own} if own else {})}
    # An account sees its own, whatever its rights; the count of all is open to everybody.
    ours = "select count(*) from information_schema.processlist where user = substring_index(current_user(), '@', 1)"
    everybody = connection.execute(text("show global status like 'Threads_connected'")).one()[1]
    return limits, max(0, int(everybody) - connection.scalar(text(ours)))
