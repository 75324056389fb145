"""Reads that follow the user's own writes: what the recipe does, with the routing that is copied as the control."""

import asyncio
import contextlib
import subprocess
import sys

import pytest
import sqlalchemy
from sqlalchemy import NullPool, create_engine, event, insert, select, text, update
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, sessionmaker

from lab.drivers import arguments
from lab.process import ROOT, environment, wait_until
from lab.replica import replica
from lab.scenes.routed import Base, Page, Routed
from recipes.read_your_writes import ReadYourWrites

OLDEST = ROOT / ".venv" / "oldest"

WRITES = {
    "flush": lambda session: setattr(session.get(Page, 1), "title", "new"),
    "update": lambda session: session.execute(update(Page).where(Page.id == 1).values(title="new")),
    "insert": lambda session: session.execute(insert(Page).values(id=2, title="new")),
    "text": lambda session: session.execute(text("update page set title = 'new'")),
    "connection": lambda session: session.connection().exec_driver_sql("update page set title = 'new'"),
    "bulk": lambda session: session.bulk_update_mappings(Page, [{"id": 1, "title": "new"}]),
    "legacy query": lambda session: session.query(Page).filter_by(id=1).update({"title": "new"}),
}


@pytest.fixture
def engines(tmp_path):
    """A primary and a replica that never catches up: two files with the same old page."""
    found = [create_engine(f"sqlite:///{tmp_path / name}", poolclass=NullPool) for name in ("primary", "replica")]
    for engine in found:
        Base.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Page(id=1, title="old"))
    return found


@pytest.fixture
def make_session(engines):
    primary, standby = engines
    return sessionmaker(class_=ReadYourWrites, primary=primary, replicas=[standby], seconds=60)


def title(session):
    """The last title in the database that the Session asks, past its identity map."""
    return session.scalar(select(Page.title).order_by(Page.id.desc()).limit(1))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(("kind", "seen"), [(ReadYourWrites, "new"), (Routed, "old")])
def test_a_session_reads_what_it_wrote(write, kind, seen, engines):
    """After any write reads go to the primary, before and after the commit; with the copied routing to the replica."""
    primary, standby = engines
    with sessionmaker(class_=kind, primary=primary, replicas=[standby])() as session:
        assert "old" == title(session)
        WRITES[write](session)
        session.flush()
        before = title(session)
        session.commit()
        after = title(session)
    with Session(primary) as session:
        arrived = title(session)

    # What the copied routing does not know for a write goes to the replica, where this one takes it.
    lost = kind is Routed and write in ("text", "connection", "insert")
    assert [seen] * 2 == [before, after] or lost
    assert ("new" == arrived) != lost


def test_the_next_session_is_told(make_session):
    """The token brings the user's next Session to the primary; without it, and for anybody else, it is the replica."""
    with make_session() as session:
        assert "" == session.token
        WRITES["flush"](session)
        assert "" == session.token
        session.commit()
        token = session.token

    with make_session(token=token) as mine, make_session() as another:
        assert ("new", "old") == (title(mine), title(another))
        # Only a write prolongs it.
        mine.commit()
        assert token == mine.token


@pytest.mark.parametrize("token", ["", None, "x", "nan", "-1", "0", "1e999x", "٣x"])
def test_a_token_that_is_none_counts_as_none(token, make_session):
    """What a client makes up is not trusted: it is the replica, and no error."""
    with make_session(token=token) as session:
        assert ("old", "") == (title(session), session.token)


@pytest.mark.parametrize("token", ["inf", "1e999", "9" * 400])
def test_a_token_is_good_for_no_longer_than_a_write(token, engines):
    """A token from the far future keeps its user on the primary no longer than his own write would."""
    primary, standby = engines
    with ReadYourWrites(primary=primary, replicas=[standby], seconds=0.2, token=token) as session:
        wait_until(lambda: not session.token, "the end of the token")
        assert "old" == title(session)


def test_after_some_seconds_it_is_the_replica_again(engines):
    """A Session that lives on goes back to the replica, between two transactions and never within one."""
    primary, standby = engines
    with ReadYourWrites(primary=primary, replicas=[standby], seconds=1.5) as session:
        WRITES["update"](session)
        session.commit()
        first = title(session)
        wait_until(lambda: not session.token, "the end of the token")
        assert ("new", "new") == (first, title(session))
        session.commit()
        assert "old" == title(session)


def test_what_is_rolled_back_was_no_write(make_session):
    """A rollback takes the Session back to the replica, a savepoint's does not."""
    with make_session() as session:
        session.execute(text("select 1"))
        with contextlib.suppress(ZeroDivisionError), session.begin_nested():
            WRITES["text"](session)
            raise ZeroDivisionError
        with Session(session._primary) as primary:
            assert "old" == title(primary)
        assert session.get_bind(clause=select(1)) is session._primary
        session.rollback()
        assert ("old", "") == (title(session), session.token)
        assert session.get_bind(clause=select(1)) is session._replica


def test_objects_of_the_replica_stay_as_they_are(engines, make_session):
    """What was read from the replica stays old in the identity map after a write, until it is read anew."""
    primary, _ = engines
    with Session(primary) as session, session.begin():
        session.get(Page, 1).title = "newer"
    with make_session() as session:
        page = session.get(Page, 1)
        session.add(Page(id=0, title="new"))
        session.flush()
        assert ("newer", "old", "old") == (title(session), session.get(Page, 1).title, page.title)
        session.refresh(page)
        assert "newer" == page.title

    with make_session() as session:
        session.use_primary()
        assert "newer" == session.get(Page, 1).title
        session.commit()
        assert "" == session.token


def test_a_locking_read_goes_to_the_primary(make_session):
    """with_for_update() is asked where it can lock, and so is what comes after it."""
    plain, union = select(Page), select(Page).union(select(Page))
    for reading in (plain, union):
        with make_session() as session:
            asked = [session.get_bind(clause=clause) for clause in (reading, reading.with_for_update(), reading)]
            assert [session._replica, session._primary, session._primary] == asked


def test_what_an_update_reads_first_it_reads_from_the_primary(engines, make_session):
    """Where synchronize_session="fetch" has to ask for the rows first, it asks the primary."""
    primary, _ = engines
    asked = []

    def note(connection, cursor, statement, *_):
        asked.append((connection.engine, statement.split()[0]))

    for engine in engines:
        engine.dialect.update_returning = False
        event.listen(engine, "before_cursor_execute", note)
    with make_session() as session:
        session.execute(update(Page).values(title="new"), execution_options={"synchronize_session": "fetch"})

    assert [(primary, "SELECT"), (primary, "UPDATE")] == asked


def test_a_session_keeps_to_one_replica(engines):
    """A Session does not go back in time by changing replicas; several Sessions share the load."""
    primary, standby = engines
    others = [create_engine("sqlite://") for _ in range(3)]
    sessions = [ReadYourWrites(primary=primary, replicas=[standby, *others]) for _ in range(100)]
    for session in sessions:
        assert 1 == len({session.get_bind(clause=select(1)) for _ in range(20)})

    assert {standby, *others} == {session.get_bind(clause=select(1)) for session in sessions}


def test_a_bind_that_is_named_is_used(engines, make_session):
    """bind_arguments are obeyed, and a write that names its engine counts."""
    primary, _ = engines
    with make_session() as session:
        read = session.scalar(select(Page.title), bind_arguments={"bind": primary})
        session.execute(update(Page).values(title="new"), bind_arguments={"bind": primary})
        assert ("old", "new") == (read, title(session))


@pytest.mark.parametrize(("kind", "seen"), [(ReadYourWrites, ["new", "new", "old"]), (Routed, ["old", "old", "old"])])
def test_with_asyncio_and_a_real_standby(kind, seen):
    """An AsyncSession over async engines does the same, and its token is that of its sync_session."""

    async def scenario(engines):
        primary, standby = engines
        if kind is Routed:
            primary, standby = primary.sync_engine, standby.sync_engine
        make_session = async_sessionmaker(sync_session_class=kind, primary=primary, replicas=[standby])
        async with make_session() as session:
            (await session.get(Page, 1)).title = "new"
            await session.commit()
            found = [await session.run_sync(title)]
            token = {"token": session.sync_session.token} if kind is ReadYourWrites else {}
        for options in (token, {}):
            async with make_session(**options) as session:
                found.append(await session.run_sync(title))
        for engine in engines:
            await engine.dispose()
        return found

    with replica() as pair:
        pair.primary.ask("create table page (id serial primary key, title text)")
        pair.primary.ask("insert into page (title) values ('old')")
        engines = [create_async_engine(**arguments("asyncpg", one)) for one in (pair.primary, pair.standby)]
        with pair.held():
            assert seen == asyncio.run(scenario(engines))


@pytest.mark.skipif(sqlalchemy.__version__.startswith("2.0"), reason="this is the run with the oldest")
def test_all_of_this_holds_with_the_oldest_sqlalchemy():
    """The tests of this file pass with SQLAlchemy 2.0, too."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    env = environment({"PYTHONPATH": f"{OLDEST}:{ROOT}", "CI": ""})
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, cwd=ROOT)

    assert 0 == done.returncode, done.stdout[-3000:]
    assert "1 skipped" in done.stdout
