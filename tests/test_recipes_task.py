"""task_session: each task has a Session of its own, ended with it; with the hazard in its place as the control."""

import asyncio
import threading

import pytest
from sqlalchemy import create_engine, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session, async_sessionmaker, create_async_engine
from sqlalchemy.orm import scoped_session, sessionmaker

from lab.drivers import arguments
from lab.process import ROOT, play
from lab.scenes.task_common import Account, Base, Truth
from recipes.task_session import gather_in_sessions, run_in_session

DRIVERS = ["asyncpg", "psycopg async", "asyncmy"]
OLDEST = ["env", f"PYTHONPATH={ROOT / '.venv' / 'oldest'}:{ROOT}"]


@pytest.fixture
def engine(tmp_path):
    """A file of SQLite with two accounts of 100, and an engine of two connections."""
    engine = create_engine(f"sqlite:///{tmp_path / 'bank.db'}", pool_size=2, max_overflow=0, pool_timeout=0.2)
    Base.metadata.create_all(engine)
    with sessionmaker(engine).begin() as session:
        session.add_all([Account(id=1, balance=100), Account(id=2, balance=100)])
    yield engine
    engine.dispose()


def _pay_in(session, amount):
    session.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + amount))
    return amount


def _balance(engine):
    with engine.connect() as connection:
        return connection.scalar(select(Account.balance).where(Account.id == 1))


async def _first_of(make_session, function, count):
    """What one task that begins while *count* others run on one pool gets without a bound: the hazard."""
    return await asyncio.gather(
        *(run_in_session(make_session, function, number) for number in range(count)), return_exceptions=True
    )


@pytest.mark.parametrize("name", DRIVERS)
def test_more_tasks_than_connections_all_get_through(name, database):
    """A hundred tasks share two connections and wait in turn; unbounded, and held on to, most time out."""
    running = database(name)

    async def both():
        engine = create_async_engine(**arguments(name, running), pool_size=2, max_overflow=0, pool_timeout=0.2)
        make_session, everyone = async_sessionmaker(engine), asyncio.Event()

        async def ask(session, number):
            return await session.scalar(text("select 2 * cast(:number as decimal)"), {"number": number})

        async def hold(session, number):
            await session.connection()
            await everyone.wait()

        told = await gather_in_sessions(make_session, ask, range(100), at_most=2)
        out = engine.pool.checkedout()
        asyncio.get_running_loop().call_later(1, everyone.set)
        hazard = await _first_of(make_session, hold, 10)
        await engine.dispose()
        return told, out, hazard

    told, out, hazard = asyncio.run(both())

    assert [2 * number for number in range(100)] == [int(each) for each in told]
    assert 0 == out
    assert 8 == len([each for each in hazard if "QueuePool limit" in str(each)])


@pytest.mark.parametrize("release", ["newest", "oldest"])
def test_oldest_and_newest_sqlalchemy_end_a_cancelled_task_alike(release, database):
    """However often a task is cancelled, the recipe leaves nothing checked out, also where ``async with`` leaks."""
    running = database("asyncpg")
    under = OLDEST if release == "oldest" else []
    how = {"engine": arguments("asyncpg", running), "database": running.kind, "pre_ping": True}
    ways = ["recipe task_session", *(["async with"] if release == "oldest" else [])]
    told = play("lab.scenes.task_cancelled", under=under, patience=120, **how, ways=ways)
    leaked = {way: [at for at, row in rows.items() if row["out"]] for way, rows in told.items()}
    kinds = {each["kind"] for row in _recipes(told).values() for each in row["next"]}

    assert [] == leaked["recipe task_session, again in every turn of the loop"]
    assert {"right"} == kinds
    if release == "oldest":
        assert ["in the pre-ping"] == leaked["async with, again in every turn of the loop"]


def _recipes(told):
    return told["recipe task_session, again in every turn of the loop"]


def test_a_failure_ends_the_others_and_rolls_back(database):
    """One task's exception cancels the rest; what is under way is rolled back, and what is done stays."""
    running = database("asyncpg")
    truth = Truth(arguments("asyncpg", running), running.kind)
    truth.rewind()

    async def both():
        engine = create_async_engine(**arguments("asyncpg", running))
        written = asyncio.Event()

        async def work(session, account):
            if account == 2:
                await written.wait()
                raise LookupError("not today")
            await session.execute(update(Account).where(Account.id == account).values(balance=150))
            written.set()
            await asyncio.Event().wait()

        with pytest.raises(ExceptionGroup) as raised:
            await gather_in_sessions(async_sessionmaker(engine), work, [1, 2], at_most=2)
        out = engine.pool.checkedout()
        await engine.dispose()
        return raised.value.exceptions, out

    (problem,), out = asyncio.run(both())

    assert "not today" == str(problem)
    assert (0, 100) == (out, truth.balance())


def test_it_commits_and_closes(engine):
    """What the function wrote is stored, and its exception, which is raised as it is, undoes it."""
    make_session = sessionmaker(engine)

    def fail(session):
        _pay_in(session, 50)
        raise LookupError("not today")

    told = asyncio.run(run_in_session(make_session, _pay_in, 25))
    with pytest.raises(LookupError, match="not today"):
        asyncio.run(run_in_session(make_session, fail))

    assert (25, 125) == (told, _balance(engine))
    assert 0 == engine.pool.checkedout()


def test_a_cancelled_task_waits_for_its_thread_and_rolls_back(engine):
    """A thread cannot be interrupted: the task ends after it, cancelled, and nothing of it is stored."""
    writing, go_on = threading.Event(), threading.Event()

    def work(session):
        _pay_in(session, 50)
        writing.set()
        go_on.wait(30)

    async def cancel():
        task = asyncio.create_task(run_in_session(sessionmaker(engine), work))
        await asyncio.to_thread(writing.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        waited = not task.done()
        task.cancel()
        go_on.set()
        await asyncio.wait([task])
        return waited, task.cancelled()

    assert (True, True) == asyncio.run(cancel())
    assert (100, 0) == (_balance(engine), engine.pool.checkedout())


def test_items_are_taken_as_tasks_become_free(engine):
    """An endless supply is not drawn up front: no more is taken than is worked on."""
    taken = []

    def supply():
        for number in range(10):
            taken.append(number)
            yield number

    def work(session, number):
        if number == 3:
            raise LookupError("enough")

    with pytest.raises(ExceptionGroup):
        asyncio.run(gather_in_sessions(sessionmaker(engine), work, supply(), at_most=1))

    assert [0, 1, 2, 3] == taken


def test_it_can_be_used_in_one_loop_after_another(engine):
    """Nothing of it belongs to a loop."""
    told = [asyncio.run(gather_in_sessions(sessionmaker(engine), _pay_in, [1, 2], at_most=1)) for _ in range(2)]

    assert [[1, 2], [1, 2]] == told
    assert 106 == _balance(engine)


async def _async_work(session):
    raise AssertionError("never runs")


def _plain_work(session):
    raise AssertionError("never runs")


@pytest.mark.parametrize(
    ("make_session", "function", "said"),
    [
        (lambda engine: sessionmaker(engine)(), _plain_work, "make_session is a Session: give the sessionmaker"),
        (lambda engine: scoped_session(sessionmaker(engine)), _plain_work, "make_session is a registry"),
        (sessionmaker, None, "function is a NoneType: give the function itself"),
        (sessionmaker, _async_work, "the function cannot be an async one"),
    ],
)
def test_a_mistake_is_told_in_one_line(make_session, function, said, engine):
    """What cannot be used is refused with a line that says what to give instead."""
    with pytest.raises(TypeError, match=said) as raised:
        asyncio.run(run_in_session(make_session(engine), function))

    assert "\n" not in str(raised.value)


def test_a_mistake_with_async_sessions_is_told_in_one_line(database):
    """So it is with an AsyncSession, its registry, and a plain function for it."""
    engine = create_async_engine(**arguments("asyncpg", database("asyncpg")))
    make_session = async_sessionmaker(engine)
    wrong = [
        (AsyncSession(engine), _async_work, "make_session is a AsyncSession: give the sessionmaker"),
        (async_scoped_session(make_session, asyncio.current_task), _async_work, "make_session is a registry"),
        (make_session, _plain_work, "the function has to be an async one"),
    ]
    for given, function, said in wrong:
        with pytest.raises(TypeError, match=said):
            asyncio.run(run_in_session(given, function))


def test_at_most_none_at_a_time_is_refused(engine):
    """No task at a time would be no result."""
    with pytest.raises(ValueError, match="at_most is 0: nothing would ever run"):
        asyncio.run(gather_in_sessions(sessionmaker(engine), _pay_in, [1], at_most=0))
