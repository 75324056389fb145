"""thread_session and scoped_registry: what their docstrings promise, with the hazard as the control."""

import contextvars
import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import ForeignKey, String, create_engine, select, text
from sqlalchemy.exc import InvalidRequestError, TimeoutError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    close_all_sessions,
    mapped_column,
    relationship,
    scoped_session,
    sessionmaker,
)

from lab.drivers import arguments
from lab.process import ROOT, environment, wait_until
from recipes.scoped_registry import OutsideScope, SessionRegistry
from recipes.thread_session import OneThread, WrongThread, in_session

OLDEST = str(ROOT / ".venv" / "oldest")
# Each says that the work is over, and each otherwise.
ENDS = [ValueError, KeyboardInterrupt, SystemExit]


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "scope_page"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(String(20))
    comments: Mapped[list["Comment"]] = relationship()


class Comment(Base):
    __tablename__ = "scope_comment"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    page_id: Mapped[int] = mapped_column(ForeignKey("scope_page.id"))


@pytest.fixture(params=["psycopg", "PyMySQL", "sqlite"])
def engine(request, database):
    """An engine of PostgreSQL, of MariaDB and of SQLite, with two pages."""
    yield from _with_pages(create_engine(**arguments(request.param, database(request.param))))


@pytest.fixture
def file(tmp_path):
    """A file of SQLite with two pages, and its engine."""
    yield from _with_pages(create_engine(f"sqlite:///{tmp_path / 'shop.db'}"))


def _with_pages(engine):
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(Page(id=n, body="old", comments=[Comment(id=n)]) for n in (1, 2))
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


def _stored(engine, page=1):
    with Session(engine) as session:
        return session.get_one(Page, page).body


def _in_another_thread(job, *arguments):
    with ThreadPoolExecutor(1, thread_name_prefix="another") as pool:
        return pool.submit(job, *arguments).result(30)


def test_the_oldest_sqlalchemy_behaves_alike():
    """All tests of this file pass with the oldest SQLAlchemy that the recipes name."""
    env = environment({"PYTHONPATH": os.pathsep.join([OLDEST, str(ROOT)])})
    which = "import sqlalchemy, sys, pytest; assert sqlalchemy.__version__.startswith('2.0'); sys.exit(pytest.main())"
    options = ["-q", "-p", "no:cacheprovider", "-k", "not oldest", __file__]
    script = which.replace("pytest.main()", f"pytest.main({options!r})")
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, timeout=240
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "skipped" not in done.stdout or os.environ.get("CI") != "true"


# thread_session: in_session


def test_a_job_that_returns_is_committed(engine):
    """What it has changed is stored, what it returns is passed on, and its connection is back."""

    @in_session(sessionmaker(engine))
    def save(session, body, page=1):
        session.get_one(Page, page).body = body
        return "saved"

    with ThreadPoolExecutor(1) as pool:
        assert "saved" == pool.submit(save, "new", page=2).result(30)
        assert ("old", "new") == (_stored(engine), _stored(engine, 2))
        assert 0 == engine.pool.checkedout()


@pytest.mark.parametrize("end", ENDS)
def test_a_job_that_raises_is_rolled_back(end, engine):
    """The next job in that thread commits its own work only; with a registry and no remove(), the control, both."""
    registry = scoped_session(sessionmaker(engine))

    def by_registry(job):
        return lambda: job(registry())

    stored = []
    for wrap in (in_session(sessionmaker(engine)), by_registry):

        @wrap
        def fails(session):
            session.get_one(Page, 1).body = "half"
            session.flush()
            raise end

        @wrap
        def next_job(session):
            session.get_one(Page, 2).body = "whole"
            session.commit()

        with pytest.raises(end):
            fails()
        next_job()
        stored.append((_stored(engine), _stored(engine, 2)))
    registry.remove()

    assert [("old", "whole"), ("half", "whole")] == stored


def test_a_full_pool_costs_one_job_and_leaves_nothing(engine):
    """A job that gets no connection raises, and the next one in its thread is as good as any."""
    narrow = create_engine(engine.url, **_connect_args(engine), pool_size=1, max_overflow=0, pool_timeout=0.05)
    count = in_session(sessionmaker(narrow))(lambda session: len(session.scalars(select(Page)).all()))

    with ThreadPoolExecutor(1) as pool:
        with narrow.connect(), pytest.raises(TimeoutError):
            pool.submit(count).result(30)
        assert 2 == pool.submit(count).result(30)
    assert 0 == narrow.pool.checkedout()
    narrow.dispose()


def _connect_args(engine):
    # The port and the name of the user are in the URL; that there is no TLS is not.
    plain = {"psycopg": {"sslmode": "disable"}, "pymysql": {"ssl_disabled": True}}.get(engine.driver)
    return {"connect_args": plain} if plain else {}


def test_as_many_threads_as_connections_do_all_jobs(engine):
    """With a Session per job, five threads serve twenty jobs over five connections."""
    five = create_engine(engine.url, **_connect_args(engine), pool_size=5, max_overflow=0, pool_timeout=30)

    @in_session(sessionmaker(five, class_=OneThread))
    def count(session, number):
        return number + len(session.scalars(select(Page)).all())

    with ThreadPoolExecutor(5) as pool:
        assert [n + 2 for n in range(20)] == list(pool.map(count, range(20)))
    assert 0 == five.pool.checkedout()
    five.dispose()


async def _coroutine(session):
    pass


def _generator(session):
    yield


async def _async_generator(session):
    yield


@pytest.mark.parametrize("job", [_coroutine, _generator, _async_generator])
def test_a_job_whose_first_line_comes_later_is_refused(job):
    """Its Session would be closed by then; the message is one line and says what to do instead."""
    with pytest.raises(TypeError, match=f"^{job.__name__} returns before its first line: .* in its body instead$"):
        in_session(sessionmaker())(job)


# thread_session: OneThread

USES = {
    "execute": lambda session, page: session.execute(select(Page.id)).all(),
    "get": lambda session, page: session.get(Page, 2),
    "lazy load": lambda session, page: page.comments,
    "refresh": lambda session, page: session.refresh(page),
    "connection": lambda session, page: session.connection(),
    "flush": lambda session, page: (setattr(page, "body", "new"), session.flush()),
    "merge": lambda session, page: session.merge(Page(id=2, body="new")),
    "commit": lambda session, page: session.commit(),
    "rollback": lambda session, page: session.rollback(),
    "close": lambda session, page: session.close(),
    "close_all_sessions": lambda session, page: close_all_sessions(),
}


@pytest.mark.parametrize("use", USES)
def test_another_thread_is_stopped(use, file):
    """Whatever it does with the Session raises, and the work goes on in the thread that it is of; plain, nothing is."""
    raised = {}
    for class_ in (OneThread, Session):
        # What is left of the one before is not for close_all_sessions() to find.
        gc.collect()
        session = sessionmaker(file, class_=class_)()
        page = session.get_one(Page, 1)
        try:
            raised[class_] = _in_another_thread(USES[use], session, page) and ""
        except WrongThread as problem:
            raised[class_] = str(problem)
            session.expire(page)
            page.body = "new"
            session.commit()
        session.close()

    assert "Session of thread 'MainThread' used in thread 'another_0'; pass on primary keys" in raised[OneThread]
    assert not raised[Session]
    assert "new" == _stored(file)


def test_a_thread_with_the_id_of_a_dead_one_is_another(file):
    """Ids of threads come back; a Session does not go by them."""
    made, ids, told = [], [], []

    def make():
        ids.append(threading.get_ident())
        made.append(sessionmaker(file, class_=OneThread)())

    def use():
        ids.append(threading.get_ident())
        with pytest.raises(WrongThread) as problem:
            made[0].execute(select(Page.id))
        told.append(problem.value)

    for step in (make, use):
        thread = threading.Thread(target=step)
        thread.start()
        number = thread.native_id
        thread.join()
        wait_until(lambda: not Path(f"/proc/self/task/{number}").exists(), "the end of a thread")  # noqa: B023

    assert ids[0] == ids[1]
    assert 1 == len(told)


def test_the_error_is_sqlalchemys_own():
    """Who catches SQLAlchemy's errors catches these."""
    assert issubclass(WrongThread, InvalidRequestError)
    assert issubclass(OutsideScope, InvalidRequestError)


# scoped_registry


@pytest.mark.parametrize(
    "use",
    [
        lambda registry: registry.execute(select(Page.id)),
        lambda registry: registry().scalar(select(Page.id)),
        lambda registry: registry.add(Page(id=3, body="new")),
        lambda registry: registry.remove(),
        lambda registry: registry.bind,
    ],
)
def test_outside_a_scope_it_raises(use, file):
    """No Session is made there, and one line says what to do; a scoped_session makes one that nobody ends."""
    with pytest.raises(OutsideScope, match=r"^no scope is open here; wrap the unit of work in .*$"):
        use(SessionRegistry(sessionmaker(file)))
    assert 0 == file.pool.checkedout()

    control = scoped_session(sessionmaker(file))
    control.execute(select(Page.id))
    assert 1 == file.pool.checkedout()
    control.remove()


@pytest.mark.parametrize("end", [None, *ENDS])
def test_a_scope_ends_whatever_ends_it(end, engine):
    """Its Session is gone, its connection back, and what was not committed is not stored."""
    registry = SessionRegistry(sessionmaker(engine))
    sessions = []

    @registry.scope()
    def work():
        sessions.append(weakref.ref(registry.registry()))
        registry.get_one(Page, 1).body = "half"
        registry.flush()
        if end:
            raise end

    try:
        work()
    except BaseException as problem:
        assert end is type(problem)
        del problem
    else:
        assert end is None

    assert 0 == engine.pool.checkedout()
    assert "old" == _stored(engine)
    assert [None] == [session() for session in sessions]


def test_a_committed_scope_is_stored(engine):
    """It commits when it is told to, by commit() or by begin()."""
    registry = SessionRegistry(sessionmaker(engine))
    with registry.scope():
        registry.get_one(Page, 1).body = "new"
        registry.commit()
    with registry.scope(), registry.begin():
        registry.get_one(Page, 2).body = "new"

    assert ("new", "new") == (_stored(engine), _stored(engine, 2))


def test_a_scope_within_a_scope_leaves_the_outer_one_alone(engine):
    """The outer change is stored; with remove() at the end of the inner work, the control, it is lost."""
    registry, control = SessionRegistry(sessionmaker(engine)), scoped_session(sessionmaker(engine))
    with registry.scope():
        registry.get_one(Page, 1).body = "mine"
        with registry.scope():
            assert "old" == registry.get_one(Page, 1).body
        registry.commit()
    control.get_one(Page, 2).body = "mine"
    control.remove()
    control.commit()
    control.remove()

    assert ("mine", "old") == (_stored(engine), _stored(engine, 2))


def test_what_is_stored_is_nobodys_session(file):
    """Five threads that use what one of them has stored have five Sessions; of a scoped_session they have one."""
    registry, control = SessionRegistry(sessionmaker(file)), scoped_session(sessionmaker(file))
    stored, controls = registry(), control()

    @registry.scope()
    def ask(page):
        loaded = stored.get_one(Page, page)
        return stored.registry(), loaded in stored

    sessions = {id(session): found for session, found in [_in_another_thread(ask, 1), ask(1), ask(2)]}
    others = {_in_another_thread(lambda: controls), controls}
    control.remove()

    assert 3 == len(sessions)
    assert all(sessions.values())
    assert 1 == len(others)


def test_a_copy_of_the_context_is_told_apart(engine):
    """A scope whose context was copied raises in another thread, and when it is over; one may be opened there."""
    registry = SessionRegistry(sessionmaker(engine))

    def ask():
        return registry.scalar(select(Page.body).where(Page.id == 1))

    def in_a_scope():
        with registry.scope():
            return ask()

    with registry.scope():
        registry.get_one(Page, 1).body = "mine"
        registry.flush()
        context = contextvars.copy_context()
        with pytest.raises(OutsideScope, match=r"^the scope of this context was opened in thread 'MainThread',"):
            _in_another_thread(context.run, ask)
        assert "old" == _in_another_thread(context.run, in_a_scope)
        assert "mine" == context.run(ask)
        registry.commit()
    with pytest.raises(OutsideScope, match=r"^the scope of this context is over; open another"):
        context.run(ask)
    assert 0 == engine.pool.checkedout()


def test_a_scope_can_be_left_in_another_thread(file):
    """A generator that is closed elsewhere closes its Session, too."""
    registry = SessionRegistry(sessionmaker(file))

    def lines():
        with registry.scope():
            yield registry.scalar(text("select 'one'"))

    generator = lines()
    first = contextvars.copy_context().run(next, generator)
    _in_another_thread(generator.close)

    assert "one" == first
    assert 0 == file.pool.checkedout()


def test_it_is_a_scoped_session(file):
    """What code expects of one is there: membership, iteration, remove() and a new Session after it."""
    registry = SessionRegistry(sessionmaker(file))

    with registry.scope():
        new = Page(id=3, body="new")
        registry.add(new)
        first = registry.registry()
        assert (True, [new]) == (new in registry, list(registry))
        registry.remove()
        assert first is not registry.registry()
        assert new not in registry
    assert isinstance(registry, scoped_session)
