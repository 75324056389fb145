"""pool_budget and leak_watch: what their docstrings promise, with the hazard as the control."""

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading

import pytest
from sqlalchemy import NullPool, QueuePool, StaticPool, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from lab.drivers import arguments
from lab.pools import APP, as_app, limited
from lab.process import ROOT, environment, wait_until
from recipes.leak_watch import LeakWatch
from recipes.pool_budget import PoolBudgetExceeded, check, check_async, compare

ONE = text("select 1")
OLDEST = str(ROOT / ".venv" / "oldest")
# What an ordinary account gets of either: 17.
LIMITS = {"psycopg": ("postgresql", 20), "PyMySQL": ("mariadb", 17)}


@pytest.fixture(scope="module", params=LIMITS)
def server(request):
    """The arguments of an ordinary account's engine on a server with few connections, and the server."""
    kind, connections = LIMITS[request.param]
    with limited(kind, connections) as database:
        yield as_app(request.param, database), database, request.param


@pytest.fixture
def engine(tmp_path):
    """An engine with a QueuePool of two, on SQLite."""
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    made = create_engine(url, poolclass=QueuePool, pool_size=2, max_overflow=0, pool_timeout=0.05)
    yield made
    made.dispose()


@pytest.fixture
def watch(engine):
    """A LeakWatch on that engine."""
    made = LeakWatch(engine, longer_than=60)
    yield made
    made.stop()


# pool_budget


def test_a_budget_that_fits_is_used_to_the_last_connection(server):
    """What passes the check can be opened, all of it; with one more, the check fails and so does the server."""
    how, database, _ = server
    fits, exceeds = (create_engine(**how, pool_size=size, max_overflow=0) for size in (17, 18))
    line = check(fits, workers=1)
    with pytest.raises(PoolBudgetExceeded) as refused:
        check(exceeds, workers=1)

    assert line.startswith("pools: 1 workers x (17 + 0) = 17 connections; server: max_connections ")
    assert line.endswith("= 17")
    assert "= 18 connections" in str(refused.value) and "1 too many" in str(refused.value)
    assert [17, 17] == [_opened(fits, database), _opened(exceeds, database)]


def test_the_connection_that_asks_does_not_stay(server):
    """After the check nothing is checked out, and the server has no client, so that a process may fork."""
    how, database, _ = server
    engine = create_engine(**how, pool_size=1, max_overflow=0)
    check(engine, workers=1)

    assert 0 == engine.pool.checkedout()
    assert wait_until(lambda: not database.sessions(), "the server has no client")


def test_connections_of_other_accounts_are_counted_and_own_ones_are_not(server):
    """Another account's connection is one less; one of a worker that has already started is not."""
    how, database, name = server
    engine = create_engine(**how, pool_size=17, max_overflow=0)
    sibling, other = create_engine(**how), create_engine(**arguments(name, database))
    with sibling.connect() as own:
        own.execute(ONE)
        fits = check(engine, workers=1)
        with other.connect() as foreign:
            foreign.execute(ONE)
            with pytest.raises(PoolBudgetExceeded, match="- 1 of other accounts = 16"):
                check(engine, workers=1)
    for made in (engine, sibling, other):
        made.dispose()

    assert fits.endswith("= 17")


def test_an_accounts_own_limit_counts(server):
    """Where the account may have fewer than the server takes, that is the limit."""
    how, database, name = server
    engine = create_engine(**how, pool_size=5, max_overflow=0)
    limit, free = {
        "psycopg": ("alter role app connection limit 4", "alter role app connection limit -1"),
        "PyMySQL": (
            f"alter user {APP}@'127.0.0.1' with max_user_connections 4",
            f"alter user {APP}@'127.0.0.1' with max_user_connections 0",
        ),
    }[name]
    database.ask(limit)
    try:
        with pytest.raises(PoolBudgetExceeded, match="= 4: 1 too many"):
            check(engine, workers=1)
    finally:
        database.ask(free)

    assert check(engine, workers=1).endswith("= 17")


def test_an_async_engine_is_checked(database):
    """check_async() asks over an AsyncEngine, and leaves nothing in its pool."""

    async def asked():
        engine = create_async_engine(**arguments("asyncpg", database("asyncpg")), pool_size=3, max_overflow=2)
        line = await check_async(engine, workers=2)
        with pytest.raises(PoolBudgetExceeded):
            await check_async(engine, workers=20)
        with pytest.raises(TypeError, match="await check_async"):
            check(engine, workers=2)
        return line

    line = asyncio.run(asked())

    assert line.startswith("pools: 2 workers x (3 + 2) = 10 connections; server: max_connections 100 - 3 reserved")
    assert wait_until(lambda: not database("asyncpg").sessions(), "the server has no client")


@pytest.mark.parametrize(
    ("options", "threads", "counted"),
    [
        ({"poolclass": QueuePool}, None, "(5 + 10) = 15"),
        ({"poolclass": QueuePool}, 40, "(5 + 10) = 15"),
        ({"poolclass": QueuePool, "max_overflow": -1}, 40, "(40 threads) = 40"),
        ({"poolclass": QueuePool, "pool_size": 0}, 40, "(40 threads) = 40"),
        ({"poolclass": NullPool}, 40, "(40 threads) = 40"),
        ({"poolclass": StaticPool}, 1, "(1) = 1"),
        ({}, 2, "(5) = 5"),
    ],
)
def test_every_pool_has_its_most(options, threads, counted):
    """What a pool may open is its own limit, or, where it has none, what the process uses."""
    line = compare([create_engine("sqlite://", **options)], 1000, "much", workers=1, threads=threads)

    assert f"pools: 1 workers x {counted} connections; server: much = 1000" == line


@pytest.mark.parametrize(
    ("options", "threads", "told"),
    [
        ({"poolclass": QueuePool}, 16, "16 threads share a pool of 15"),
        ({"poolclass": QueuePool}, 15, ""),
        ({"poolclass": NullPool}, 15, "NullPool sets no limit"),
        ({"poolclass": QueuePool, "max_overflow": -1}, 15, "QueuePool sets no limit"),
    ],
)
def test_what_is_no_error_is_warned_of(options, threads, told, caplog):
    """Threads that have to wait, and pools without a limit, are logged."""
    compare([create_engine("sqlite://", **options)], 1000, "much", workers=1, threads=threads)

    assert bool(told) == bool(caplog.messages)
    assert all(message.startswith(told) for message in caplog.messages)


def test_a_budget_cannot_be_made_of_nonsense():
    """Numbers that make no sense, and a pool without a limit of which nothing is said, are refused in one line."""
    engine = create_engine("sqlite://", poolclass=NullPool)
    for wrong in ({"workers": 0}, {"workers": 1, "threads": 0}, {"workers": 1, "others": -1}, {"workers": 1}):
        with pytest.raises(ValueError, match=r"^[^\n]+$"):
            compare([engine], 100, "100", **wrong)
    with pytest.raises(ValueError, match="no engine is given"):
        check(workers=1)


def _opened(engine, database):
    """How many connections *engine* can open by itself."""
    wait_until(lambda: not database.sessions(), "the server has no client")
    opened = []
    try:
        for _ in range(engine.pool.size()):
            opened.append(engine.connect())
    except Exception as problem:
        assert "slots are reserved" in str(problem) or "Too many connections" in str(problem)
    for connection in opened:
        connection.close()
    engine.dispose()
    return len(opened)


# leak_watch


def leaks(engine, kept):
    session = Session(engine)
    session.scalar(ONE)
    kept.append(session)


def behaves(engine):
    with Session(engine) as session:
        session.scalar(ONE)


def _stacks(watch):
    return [[line.split(" in ")[1] for line in held.stack] for held in watch.held()]


def test_the_timeout_names_nobody_and_the_watch_names_the_leak(engine, watch):
    """Without it the message says how many are held; with it, which thread took each, and in which function."""
    kept = []
    for number in range(2):
        thread = threading.Thread(target=leaks, args=(engine, kept), name=f"leaking-{number}")
        thread.start()
        thread.join()
    with pytest.raises(PoolTimeout) as refused:
        behaves(engine)

    assert "leak" not in str(refused.value)
    assert ["leaking-0", "leaking-1"] == [held.thread for held in watch.held()]
    assert ["leaks", "leaks"] == [stack[0] for stack in _stacks(watch)]
    assert watch.held()[0].stack[0].startswith(f"{__file__}:")
    assert 3 == len(watch.report().splitlines())
    for session in kept:
        session.close()


def test_who_behaves_is_not_named(engine, watch):
    """A connection that went back is nobody's, and one that is held is still told apart from it."""
    kept = []
    leaks(engine, kept)
    behaves(engine)

    assert ["leaks"] == [stack[0] for stack in _stacks(watch)]
    kept.pop().close()
    assert [] == watch.held()


@pytest.mark.parametrize("gone", ["close", "detach", "invalidate", "collected"])
def test_a_connection_is_held_until_it_is_gone(engine, watch, gone):
    """Closed, detached, invalidated or collected: the pool no longer counts it, and nor does the watch."""
    connection = engine.connect()
    before = len(watch.held())
    if gone == "collected":
        connection = None
        gc.collect()
    else:
        getattr(connection, gone)()

    assert (1, 0) == (before, len(watch.held())) and 0 == engine.pool.checkedout()
    if connection is not None:
        connection.close()


def test_a_soft_invalidated_connection_is_still_held(engine, watch):
    """What is only marked for renewal is still checked out."""
    with engine.connect() as connection:
        connection.connection.invalidate(soft=True)
        held = len(watch.held())

    assert (1, 0) == (held, len(watch.held()))


def test_the_watch_keeps_nothing_alive(engine, watch):
    """A Session that is dropped is collected, and its connection goes back."""
    kept = []
    leaks(engine, kept)
    kept.clear()
    gc.collect()

    assert ([], 0) == (watch.held(), engine.pool.checkedout())


def test_who_holds_too_long_is_logged_once(engine, caplog):
    """One warning for each checkout, with the name of the function; none for one that went back in time."""
    caplog.set_level(logging.WARNING, "leak_watch")
    watch = LeakWatch(engine, longer_than=0.05)
    kept = []
    behaves(engine)
    leaks(engine, kept)
    wait_until(lambda: caplog.messages, "the warning")
    # Several rounds of the watcher later it has said no more.
    threading.Event().wait(0.3)
    watch.stop()
    kept.pop().close()

    assert 1 == len(caplog.messages)
    assert " in leaks, from " in caplog.messages[0]


def test_a_stopped_watch_notes_nothing(engine):
    """After stop(), and after a dispose() that made a new pool, no checkout is noted, and no thread is left."""
    watch = LeakWatch(engine, longer_than=0.02)
    behaves(engine)
    engine.dispose()
    with engine.connect():
        during = len(watch.held())
        watch.stop()
        behaves(engine)

    assert (1, []) == (during, watch.held())
    assert wait_until(lambda: "leak_watch" not in {it.name for it in threading.enumerate()}, "the thread ends")


def test_a_task_is_named(database):
    """With an AsyncEngine the task is told, and the frames of the coroutine, beyond SQLAlchemy's greenlet."""

    async def leaks_in_a_task(engine, kept):
        session = AsyncSession(engine)
        await session.scalar(ONE)
        kept.append(session)

    async def watched():
        engine = create_async_engine(**arguments("asyncpg", database("asyncpg")))
        watch, kept = LeakWatch(engine, longer_than=60), []
        await asyncio.create_task(leaks_in_a_task(engine, kept), name="leaking")
        held = watch.held()
        await kept[0].close()
        after = watch.held()
        await engine.dispose()
        watch.stop()
        return held, after

    (held,), after = asyncio.run(watched())

    assert ("leaking", []) == (held.task, after)
    assert held.stack[0].endswith(" in leaks_in_a_task")


def test_a_child_tells_of_its_own(engine, watch):
    """After a fork the parent's holders are not the child's; the child's own are noted, by a thread of its own."""
    connection = engine.connect()
    reads, writes = os.pipe()
    if not (child := os.fork()):
        # Nothing of the parent's is touched: the child has an engine of its own, and a copy of the watch.
        before = len(watch.held())
        with engine.connect():
            os.write(writes, json.dumps([before, len(watch.held())]).encode())
            os._exit(0)
    os.waitpid(child, 0)
    told = json.loads(os.read(reads, 100))
    os.close(reads)
    os.close(writes)

    assert ([0, 1], 1) == (told, len(watch.held()))
    connection.close()


def test_a_watch_of_no_time_is_refused(engine):
    """Zero and less, and what is no number, say so in one line."""
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="longer_than has to be above 0"):
            LeakWatch(engine, longer_than=wrong)


def test_both_work_with_the_oldest_sqlalchemy():
    """The tests that need no server pass with SQLAlchemy 2.0 as well."""
    chosen = "every_pool or no_error or nonsense or leak or behaves or until_it_is_gone or alive or logged or stopped"
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen]
    env = environment({"PYTHONPATH": os.pathsep.join((OLDEST, str(ROOT))), "CI": "true"})
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=120)

    assert 0 == done.returncode, done.stdout
    assert "skipped" not in done.stdout
