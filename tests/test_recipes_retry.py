"""retry_transaction: what it does again and what not, and that nothing of a failed attempt is left."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InvalidRequestError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from lab.drivers import arguments
from lab.process import ROOT, environment, folder
from lab.scenes.lost_stage import Account, Base, Versioned
from recipes.retry_transaction import retry, transactional, transient

OLDEST = str(ROOT / ".venv" / "oldest")


@pytest.fixture
def engine(tmp_path):
    """A file of SQLite, which waits for no lock, with one account."""
    yield from _with_an_account(create_engine(f"sqlite:///{tmp_path / 'shop.db'}", connect_args={"timeout": 0}))


@pytest.fixture
def server(database, request):
    """An engine of the driver that the test names, with one account."""
    yield from _with_an_account(create_engine(**arguments(request.param, database(request.param))))


def _with_an_account(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all([Account(id=1, balance=100), Versioned(id=1, balance=100)])
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def _balance(engine, entity=Account):
    with Session(engine) as session:
        return session.get_one(entity, 1).balance


class Times:
    """Do *work*; before it ends its first *meets* attempts, somebody else does *meanwhile*."""

    def __init__(self, work, meanwhile=lambda: None, meets=1):
        self.work, self.meanwhile, self.meets = work, meanwhile, meets
        self.sessions = []

    def __call__(self, session):
        self.sessions.append(session)
        result = self.work(session)
        if len(self.sessions) <= self.meets:
            self.meanwhile()
        return result


def test_oldest_and_newest_sqlalchemy_retry_alike():
    """Without a retry one of two is done, with it both, whichever SQLAlchemy it is."""
    script = (
        "import json, sys; from lab.scenes.lost_retry import REFUSED, main; "
        "print(json.dumps(main({'url': f'sqlite:///{sys.argv[1]}'}, {REFUSED: 'BEGIN'}, trials=1)))"
    )
    told = []
    for path in ("", OLDEST):
        with folder() as home:
            env = environment({"PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))})
            command = [sys.executable, "-W", "error", "-c", script, home / "shop.db"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert 0 == done.returncode, done.stderr
        ((_, found),) = json.loads(done.stdout).items()
        told.append({name: trials[0]["acknowledged"] for name, trials in found.items()})

    assert [{"none": 1, "retry": 2}] * 2 == told


def test_another_error_is_raised_at_once(engine):
    """An IntegrityError would only come again, and what is no error of the database is none of its business."""
    add = Times(lambda session: session.add(Account(id=1, balance=1)) or session.flush())
    fail = Times(lambda session: 1 / 0)

    for work, error in ((add, IntegrityError), (fail, ZeroDivisionError)):
        with pytest.raises(error):
            retry(sessionmaker(engine), work, first=0)
        assert 1 == len(work.sessions)
    assert 0 == engine.pool.checkedout()


def test_attempts_are_bounded(engine):
    """With the database locked for good, it ends after so many attempts, with the last error and a note."""
    work = Times(lambda session: session.execute(text("update lost_account set balance = 0")))
    with engine.connect() as other:
        other.execute(text("update lost_account set balance = 1"))
        with pytest.raises(OperationalError, match="database is locked") as caught:
            retry(sessionmaker(engine), work, attempts=3, first=0)

    assert 3 == len(work.sessions)
    assert ["retry_transaction: given up after 3 attempts"] == caught.value.__notes__
    assert 100 == _balance(engine)


def test_an_attempt_finds_nothing_of_the_one_before(engine):
    """Each has a new Session: what the failed one added, and has set on the Session, is not in the next one's."""
    other = engine.connect()

    def work(session):
        found = (len(session.identity_map), dict(session.info), session.scalars(select(Account.id)).all())
        session.info["seen"] = True
        session.add(Account(id=1 + len(times.sessions), balance=0))
        if len(times.sessions) == 1:
            other.execute(text("update lost_account set balance = balance + 1"))
        else:
            other.rollback()
        session.flush()
        return found

    times = Times(work)
    assert (0, {}, [1]) == retry(sessionmaker(engine), times, first=0)
    other.close()

    assert 2 == len(times.sessions) == len(set(map(id, times.sessions)))
    with Session(engine) as session:
        assert [1, 3] == session.scalars(select(Account.id).order_by(Account.id)).all()


def test_stale_data_is_done_again_if_told_to(engine):
    """The error of a version_id_col is raised, the control, or done again."""

    def pay_in(session):
        session.get_one(Versioned, 1).balance += 10

    def others():
        with Session(engine) as session, session.begin():
            pay_in(session)

    def work(session):
        account = session.get_one(Versioned, 1)
        if len(times.sessions) == 1:
            others()
        account.balance += 10

    times = Times(work)
    with pytest.raises(StaleDataError):
        retry(sessionmaker(engine), times, first=0)
    assert 110 == _balance(engine, Versioned)

    times = Times(work)
    retry(sessionmaker(engine), times, first=0, also=[StaleDataError])
    assert 130 == _balance(engine, Versioned)


@pytest.mark.parametrize("server", ["psycopg"], indirect=True)
@pytest.mark.parametrize("again", [False, True])
def test_a_commit_that_is_refused_is_done_again(again, server):
    """PostgreSQL may find out at the commit that two could not have run one after the other; the mail is sent once."""
    serializable = server.execution_options(isolation_level="SERIALIZABLE")
    make_session, mails = sessionmaker(serializable), []

    def others():
        with make_session.begin() as session:
            session.add(Versioned(id=2, balance=session.scalar(select(Account.balance))))

    def work(session):
        # Each reads what the other writes, and the other commits first.
        account = session.get_one(Account, 1)
        account.balance += len(session.scalars(select(Versioned)).all())
        session.flush()
        if len(times.sessions) == 1:
            others()
        return account.balance

    times = Times(work)
    if again:
        mails.append(retry(make_session, times, first=0))
        assert (2, [102], 102) == (len(times.sessions), mails, _balance(server))
    else:
        with pytest.raises(DBAPIError, match="could not serialize") as caught, make_session.begin() as session:
            mails.append(times(session))
        # What was told before the commit is not so.
        assert ([101], 100) == (mails, _balance(server))
        assert transient(caught.value)


@pytest.mark.parametrize("server", ["PyMySQL"], indirect=True)
def test_a_lock_wait_timeout_undoes_the_whole_transaction(server):
    """MySQL undoes the statement only: who catches it and commits stores one half. The recipe does all of it again."""
    event.listen(server, "connect", lambda dbapi, _: dbapi.query("SET innodb_lock_wait_timeout = 0"))
    server.dispose()

    def work(session):
        session.execute(text("update lost_versioned set balance = balance - 10"))
        session.execute(text("update lost_account set balance = balance + 10"))

    with server.connect() as other:
        other.execute(text("select * from lost_account for update"))
        with Session(server) as session:
            with pytest.raises(OperationalError, match="1205"):
                work(session)
            session.commit()
        assert (90, 100) == (_balance(server, Versioned), _balance(server))

        def again(session):
            if len(times.sessions) == 2:
                other.rollback()
            work(session)

        times = Times(again)
        retry(sessionmaker(server), times, first=0)
    assert (2, 80, 110) == (len(times.sessions), _balance(server, Versioned), _balance(server))


@pytest.mark.parametrize(
    ("server", "end"),
    [("psycopg", "select pg_terminate_backend({})"), ("PyMySQL", "kill {}")],
    indirect=["server"],
)
def test_a_connection_lost_in_the_commit_is_not_done_again(server, end):
    """Whether it took effect is not known; so the error is raised, and the work was begun once."""
    ask = text("select pg_backend_pid()" if server.dialect.name == "postgresql" else "select connection_id()")

    def work(session):
        session.get_one(Account, 1).balance += 10
        victim = session.scalar(ask)

        @event.listens_for(server, "commit", once=True)
        def kill(connection):
            with server.connect() as other:
                other.execute(text(end.format(victim)))

    times = Times(work)
    with pytest.raises(DBAPIError) as caught:
        retry(sessionmaker(server), times, first=0)

    assert 1 == len(times.sessions)
    assert not transient(caught.value)


@pytest.mark.parametrize("name", ["asyncpg", "psycopg async", "asyncmy"])
def test_the_errors_of_asyncs_drivers_are_known(name, database):
    """Under asyncio, transient() tells what a loop of one's own should do again."""
    running = database(name)
    settings = arguments(name, running)
    if running.kind == "mariadb" and not running.ask("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        pytest.skip("this MariaDB has no innodb_snapshot_isolation")

    async def main():
        engine = create_async_engine(**settings, isolation_level="REPEATABLE READ")
        if engine.dialect.name == "mysql":
            switch = "SET innodb_snapshot_isolation = ON"
            event.listen(engine.sync_engine, "connect", lambda dbapi, _: dbapi.cursor().execute(switch))
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine) as session, session.begin():
            session.add(Account(id=1, balance=100))
        with pytest.raises(DBAPIError) as caught:
            async with AsyncSession(engine) as one, AsyncSession(engine) as two:
                for session in (one, two):
                    await session.get_one(Account, 1)
                for session in (one, two):
                    (await session.get_one(Account, 1)).balance += 10
                    await session.commit()
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
        return caught.value

    assert transient(asyncio.run(main()))


def test_an_interrupt_ends_it(engine):
    """Ctrl-C is no reason to try again, and gives the connection back."""

    def work(session):
        session.execute(text("update lost_account set balance = 0"))
        raise KeyboardInterrupt

    times = Times(work)
    with pytest.raises(KeyboardInterrupt):
        retry(sessionmaker(engine), times)

    assert (1, 0, 100) == (len(times.sessions), engine.pool.checkedout(), _balance(engine))


def test_the_decorator_passes_on_what_it_is_given(engine):
    """A decorated function is called without the Session, and its last attempt's value is the result."""

    @transactional(sessionmaker(engine), attempts=2, first=0)
    def pay_in(session, amount, *, to):
        """Pay in."""
        account = session.get_one(Account, to)
        account.balance += amount
        return account.balance

    assert 107 == pay_in(7, to=1) == _balance(engine)
    assert ("pay_in", "Pay in.") == (pay_in.__name__, pay_in.__doc__)


async def _coroutine(session):
    """What would not run."""


def _generator(session):
    yield


@pytest.mark.parametrize("work", [_coroutine, _generator])
def test_what_would_only_seem_to_work_is_refused(work, engine):
    """A coroutine or a generator would begin after the commit."""
    with pytest.raises(TypeError, match="a plain function is needed"):
        retry(sessionmaker(engine), work)
    with pytest.raises(TypeError, match="a plain function is needed"):
        transactional(sessionmaker(engine))(work)


def test_a_transaction_of_somebody_elses_is_refused(engine):
    """Where the transaction is older than the attempt, its end would not be the attempt's."""
    work = Times(lambda session: None)
    registry = scoped_session(sessionmaker(engine))
    registry.get_one(Account, 1)
    with pytest.raises(InvalidRequestError, match="already begun"):
        retry(registry, work)
    registry.remove()
    with engine.connect() as connection, pytest.raises(ValueError, match="bound to a connection"):
        retry(sessionmaker(connection), work)
    with pytest.raises(ValueError, match="attempts must be at least 1, not 0"):
        retry(sessionmaker(engine), work, attempts=0)

    assert [] == work.sessions


def test_no_work_goes_on_after_a_commit_of_its_own(engine):
    """Work that commits half-way is stopped at what comes next."""

    def work(session):
        session.commit()
        session.get_one(Account, 1)

    with pytest.raises(InvalidRequestError, match="closed transaction"):
        retry(sessionmaker(engine), work)
