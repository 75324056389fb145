"""fresh_reads, polling_worker and staleness_probe: what their docstrings promise, with the hazard as the control."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from sqlalchemy import ForeignKey, StaticPool, String, create_engine, event, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from lab.drivers import arguments
from lab.process import ROOT, environment, folder, wait_until
from lab.trials import NETWORK_DRIVERS
from recipes import fresh_reads
from recipes.fresh_reads import KeepsSnapshot, WouldLose, locked, reread, restart, watch
from recipes.polling_worker import claim, poll
from recipes.read_your_writes import ReadYourWrites
from recipes.staleness_probe import Cause, assert_fresh, diagnose

OLDEST = str(ROOT / ".venv" / "oldest")


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "fresh_page"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(20), default="page")
    # The attribute is called otherwise than its column.
    body: Mapped[str] = mapped_column("contents", String(20))
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "page"}  # noqa: RUF012


class News(Page):
    __tablename__ = "fresh_news"
    id: Mapped[int] = mapped_column(ForeignKey("fresh_page.id"), primary_key=True)
    source: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {"polymorphic_identity": "news"}  # noqa: RUF012


@pytest.fixture
def engine(tmp_path):
    """A file of SQLite with one page, and its engine."""
    yield from _with_a_page(create_engine(f"sqlite:///{tmp_path / 'shop.db'}"))


@pytest.fixture(params=["psycopg", "PyMySQL"])
def server(request, database):
    """An engine of PostgreSQL, and one of MariaDB, with one page."""
    yield from _with_a_page(create_engine(**arguments(request.param, database(request.param))))


def _with_a_page(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Page(id=1, body="old"))
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def _write(engine, body="new"):
    with engine.begin() as others:
        others.execute(text("update fresh_page set contents = :body where id = 1"), {"body": body})


@pytest.mark.parametrize("scene", ["fresh_reads", "probe"])
def test_oldest_and_newest_sqlalchemy_read_alike(scene):
    """Whatever a recipe answers with the newest release of SQLAlchemy, it answers with the oldest that it names."""
    script = (
        f"import json, sys; from lab.scenes.{scene} import main; from lab.scenes.staleness import WAL; "
        "found = main({'url': f'sqlite:///{sys.argv[1]}'}, isolations=['default', WAL], trials=1); "
        "print(json.dumps(found))"
    )
    told = []
    for path in ("", OLDEST):
        with folder() as home:
            env = environment({"PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)]))})
            command = [sys.executable, "-W", "error", "-c", script, home / "shop.db"]
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
        assert 0 == done.returncode, done.stderr
        told.append(_words(json.loads(done.stdout.splitlines()[-1])))

    newest, oldest = told
    assert newest == oldest
    assert len(newest) >= 20


# What the recipes answer; how a plain query flushes, for one, differs from release to release.
RECIPES = {"reread()", "restart(), get()", "locked()", "restart()", "staleness_probe", "diagnose()"}


def _words(found, path=()):
    """The outcomes, without the SQL."""
    if not isinstance(found, (dict, list)):
        return [(*path, found)] if RECIPES & set(path) else []
    items = found.items() if isinstance(found, dict) else enumerate(found)
    return [word for name, value in items if name not in ("sql", "message") for word in _words(value, (*path, name))]


# fresh_reads


@pytest.mark.parametrize("name", NETWORK_DRIVERS)
def test_a_snapshot_is_known_from_the_isolation(name, database):
    """REPEATABLE READ keeps one, READ COMMITTED does not, nor does a driver that commits by itself."""
    settings = arguments(name, database(name))
    kept = {}
    for isolation in ("READ COMMITTED", "REPEATABLE READ", "AUTOCOMMIT"):
        engine = create_engine(**settings, isolation_level=isolation)
        with Session(engine) as session:
            kept[isolation] = fresh_reads.keeps_snapshot(session)
        engine.dispose()

    assert {"READ COMMITTED": False, "REPEATABLE READ": True, "AUTOCOMMIT": False} == kept


def test_a_locked_row_is_current(server):
    """A locking select() keeps the old value of an object that is loaded, and locked() gives the new one."""
    with Session(server.execution_options(isolation_level="READ COMMITTED")) as session:
        page = session.get_one(Page, 1)
        _write(server)

        assert "old" == session.scalars(select(Page).where(Page.id == 1).with_for_update()).one().body
        assert (page, "new") == (locked(session, Page, 1), page.body)
        assert locked(session, Page, 2) is None


def test_no_call_drops_an_unflushed_change(server):
    """reread() and locked() leave an object with changes alone; refresh(), the control, drops them."""
    with Session(server) as session:
        page = session.get_one(Page, 1)
        page.body = "mine"
        for call in (lambda: reread(session, page), lambda: locked(session, Page, 1)):
            with pytest.raises(WouldLose, match="a change of Page"):
                call()
        assert "mine" == page.body

        session.refresh(page)
        assert "old" == page.body


@pytest.mark.parametrize("autoflush", [True, False])
@pytest.mark.parametrize(
    ("call", "loses"),
    [
        (lambda session, page: session.refresh(page), [True, False]),
        (lambda session, page: session.expire(page), [True, False]),
        (
            lambda session, page: session.scalars(select(Page), execution_options={"populate_existing": True}).all(),
            [False],
        ),
        (lambda session, page: session.get(Page, 1, with_for_update=True), []),
        (lambda session, page: session.commit(), []),
    ],
    ids=["refresh()", "expire()", "populate_existing", "get(with_for_update=True)", "commit()"],
)
def test_what_loses_an_unflushed_change(call, loses, autoflush, engine):
    """The table of the article: refresh() and expire() always do, populate_existing does where nothing is flushed."""
    with Session(engine, autoflush=autoflush) as session:
        page = session.get_one(Page, 1)
        page.body = "mine"
        call(session, page)

        assert (autoflush in loses) == (page.body == "old")


def test_restart_refuses_what_it_has_not_watched(engine):
    """A transaction of which nothing is known is not ended, nor one that began outside of the Session."""
    with Session(engine) as session:
        session.get_one(Page, 1)
        with pytest.raises(WouldLose, match="before watch"):
            restart(session)
    with engine.connect() as connection, connection.begin(), watch(sessionmaker(connection))() as session:
        session.get_one(Page, 1)
        with pytest.raises(WouldLose, match="outside of this Session"):
            restart(session)


def test_restart_also_expires_what_a_commit_has_left(engine):
    """Between transactions, objects that expire_on_commit=False has kept are loaded anew."""
    with watch(sessionmaker(engine, expire_on_commit=False))() as session:
        page = session.get_one(Page, 1)
        session.commit()
        _write(engine)
        assert "old" == page.body

        restart(session)
        assert "new" == page.body


@pytest.mark.parametrize(
    ("statement", "reads"),
    [
        ("select 1", True),
        ("\n SELECT information, updated FROM fresh_page", True),
        ("select * into copy from fresh_page", False),
        ("select id from fresh_page for no key update", False),
        ("select id from fresh_page\nfor share", False),
        ("select id from fresh_page lock in share mode", False),
        ("with gone as (delete from fresh_page returning *) select * from gone", False),
        ("set local statement_timeout = 1", False),
    ],
)
def test_plain_reads_are_known_from_the_statement(statement, reads):
    """What cannot be lost is a plain SELECT; whatever may write, lock or set something counts as work."""
    assert reads == bool(fresh_reads._PLAIN_READ.match(statement))


def test_an_async_session_can_do_the_same(database):
    """Under asyncio the functions run in run_sync, and what is watched is the Session class inside."""
    settings = arguments("psycopg async", database("psycopg async"))

    class Inside(Session):
        pass

    async def main():
        engine = create_async_engine(**settings, isolation_level="REPEATABLE READ")
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with AsyncSession(engine, sync_session_class=watch(Inside)) as session, session.begin():
            session.add(Page(id=1, body="old"))
        async with AsyncSession(engine, sync_session_class=Inside) as session:
            page = await session.get_one(Page, 1)
            async with engine.begin() as others:
                await others.execute(text("update fresh_page set contents = 'new'"))
            cause = (await session.run_sync(diagnose, page)).cause
            with pytest.raises(KeepsSnapshot):
                await session.run_sync(reread, page)
            await session.run_sync(restart)
            await session.run_sync(reread, page)
            body = page.body
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.drop_all)
        await engine.dispose()
        return cause, body

    assert (Cause.SNAPSHOT, "new") == asyncio.run(main())


# polling_worker


@pytest.mark.parametrize(("how", "expected"), [("claim()", {1, 2}), ("a plain select()", {1})])
def test_two_workers_take_two_jobs(how, expected, server):
    """Two workers that have each a job at the same moment have two with claim(), and the same one without."""
    with Session(server) as session, session.begin():
        session.add(Page(id=2, body="old"))
    stop, both, taken = threading.Event(), threading.Barrier(2, timeout=30), []
    jobs = select(Page).where(Page.body == "old").order_by(Page.id)

    def step(session):
        job = claim(session, jobs) if how == "claim()" else session.scalars(jobs.limit(1)).first()
        taken.append(job.id)
        both.wait()
        stop.set()

    workers = [threading.Thread(target=poll, args=[sessionmaker(server), step], kwargs={"stop": stop}) for _ in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    assert expected == set(taken)


class Nights:
    """A stop that is set after so many sleeps, and tells their lengths."""

    def __init__(self, number):
        self.number, self.lengths = number, []

    def is_set(self):
        return len(self.lengths) >= self.number

    def wait(self, seconds):
        self.lengths.append(seconds)


def test_failures_double_the_sleep_and_success_ends_it(engine):
    """Each failure in a row doubles the time, up to the longest; a busy step is followed by the next at once."""
    nights, failures = Nights(6), iter([True, True, True, True, False, False, True])
    polls = []

    def step(session):
        polls.append(next(failures))
        if polls[-1]:
            raise OperationalError("select 1", {}, Exception("gone"))
        return len(polls) == 5

    poll(sessionmaker(engine), step, every=1, longest=10, stop=nights)

    assert [2, 4, 8, 10, 1, 2] == nights.lengths
    assert 7 == len(polls)


def test_a_mistake_ends_the_loop_and_is_rolled_back(engine):
    """What is no error of the connection or of concurrency is raised, and nothing of its step is kept."""

    def step(session):
        session.get_one(Page, 1).body = "half"
        session.flush()
        session.execute(text("insert into fresh_page (id, contents, kind) values (1, '', '')"))

    with pytest.raises(IntegrityError):
        poll(sessionmaker(engine), step, stop=Nights(1))
    with Session(engine) as session:
        assert "old" == session.get_one(Page, 1).body


WORKER = """
import pathlib, sys, time
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from recipes.polling_worker import Signals, poll
import threading

home = pathlib.Path(sys.argv[1])
stop = Signals() if sys.argv[2] == "Signals" else threading.Event()

def step(session):
    session.execute(text("update fresh_page set contents = 'half'"))
    (home / "busy").touch()
    while not (home / "go").exists():
        time.sleep(0.01)
    session.execute(text("update fresh_page set contents = 'whole'"))

poll(sessionmaker(create_engine(f"sqlite:///{home}/shop.db")), step, every=600, stop=stop)
"""


@pytest.mark.parametrize(("stop", "code", "body"), [("Signals", 0, "whole"), ("Event", -signal.SIGTERM, "old")])
def test_sigterm_ends_the_worker_after_its_step(stop, code, body, engine, tmp_path):
    """SIGTERM in the middle of a step: with Signals it is finished and committed; otherwise the process dies in it."""
    command = [sys.executable, "-W", "error", "-c", WORKER, tmp_path, stop]
    with subprocess.Popen(command, env=environment()) as worker:
        wait_until((tmp_path / "busy").exists, "the worker is in a step")
        worker.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        try:
            assert code == worker.wait(30)
        finally:
            worker.kill()

    with Session(engine) as session:
        assert body == session.get_one(Page, 1).body


# staleness_probe


def test_a_stale_read_fails_a_test(engine):
    """assert_fresh says which attribute is what, and why; a fresh one passes."""
    with Session(engine) as session:
        page = session.get_one(Page, 1)
        assert_fresh(session, page)
        _write(engine)

        with pytest.raises(AssertionError, match=r"^held object: body is 'old', committed is 'new'\. Something holds"):
            assert_fresh(session, page)


def test_a_list_can_be_asked_about(server):
    """Of a select() the rows are compared: in a snapshot a new row is missing, and elsewhere it is there."""
    found = {}
    for isolation in ("READ COMMITTED", "REPEATABLE READ"):
        with Session(server.execution_options(isolation_level=isolation)) as session:
            session.scalars(select(Page)).all()
            with Session(server) as others, others.begin():
                others.add(Page(id=2 + len(found), body="new"))
            found[isolation] = diagnose(session, select(Page).order_by(Page.id)).cause

    assert {"READ COMMITTED": Cause.FRESH, "REPEATABLE READ": Cause.SNAPSHOT} == found


def test_all_columns_of_an_inherited_row_are_compared(engine):
    """The row may lie in two tables, and an attribute need not be called as its column."""
    with Session(engine) as session, session.begin():
        session.add(News(id=2, body="old", source="old"))
    with Session(engine) as session:
        news = session.get_one(News, 2)
        with engine.begin() as others:
            others.execute(text("update fresh_page set contents = 'new'"))
            others.execute(text("update fresh_news set source = 'new'"))
        found = diagnose(session, news)

    assert Cause.HELD_OBJECT == found.cause
    assert {"body is 'old', committed is 'new'", "source is 'old', committed is 'new'"} <= set(_pairs(found.text))


def _pairs(line):
    words = line.removeprefix("held object: ").partition(". ")[0].split(", ")
    return [f"{one}, {two}" for one, two in zip(words[::2], words[1::2], strict=True)]


def test_a_commit_in_the_middle_of_a_diagnosis_is_no_cause(engine):
    """When somebody commits between two of its reads, the probe reads again and compares what belongs together."""
    with Session(engine) as session:
        page = session.get_one(Page, 1)
        writes = iter([True])

        @event.listens_for(engine, "checkout")
        def checkout(dbapi_connection, record, proxy):
            if next(writes, False):
                _write(engine)

        assert Cause.HELD_OBJECT == diagnose(session, page).cause


def test_a_savepoint_is_left_as_it_is(engine):
    """In a nested transaction, too, the probe begins nothing, and knows a change of its own."""
    with Session(engine) as session:
        page = session.get_one(Page, 1)
        with session.begin_nested() as savepoint:
            page.body = "mine"
            session.flush()
            found = diagnose(session, page)

            assert savepoint is session.get_nested_transaction()
            assert Cause.UNCOMMITTED_CHANGE == found.cause


def test_a_session_that_routes_is_asked_where_its_reads_go(engine, tmp_path):
    """With read_your_writes and the primary as truth, a replica that lags is found out, and the route stays."""
    primary = create_engine(f"sqlite:///{tmp_path / 'primary.db'}")
    Base.metadata.create_all(primary)
    with Session(primary) as session, session.begin():
        session.add(Page(id=1, body="new"))
    with ReadYourWrites(primary=primary, replicas=[engine]) as session:
        page = session.get_one(Page, 1)

        assert Cause.REPLICA == diagnose(session, page, truth=primary).cause
        session.refresh(page)
        assert "old" == page.body
    primary.dispose()


def test_what_cannot_be_compared_is_refused(engine):
    """An object of another session, and a database with one connection, are no cases for the probe."""
    alone = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(alone)
    with Session(engine) as session, Session(alone, autoflush=False) as other:
        page = session.get_one(Page, 1)
        other.execute(text("insert into fresh_page (id, contents, kind) values (1, 'mine', 'page')"))
        only = other.get_one(Page, 1)

        with pytest.raises(ValueError, match="not an object of this session"):
            diagnose(other, page)
        with pytest.raises(ValueError, match="one connection only"):
            diagnose(other, only)
        # Its uncommitted row is still there.
        assert "mine" == other.scalar(text("select contents from fresh_page"))
    alone.dispose()


def test_the_errors_are_sqlalchemys_own():
    """Who catches SQLAlchemy's errors catches these."""
    assert issubclass(KeepsSnapshot, InvalidRequestError)
    assert issubclass(WouldLose, InvalidRequestError)
