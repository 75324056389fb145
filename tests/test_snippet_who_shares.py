"""The two-minute test of the article on threads: a Session that is shared is told, and one for each is not."""

import asyncio
import runpy
import threading

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.drivers import arguments
from lab.process import ROOT

tell_who_shares = runpy.run_path(str(ROOT / "docs" / "snippets" / "who_shares.py"))["tell_who_shares"]
ASK = select(text("1"))


class Watched(Session):
    """What is listened to here, so that other tests' Sessions are left alone."""


tell_who_shares(Watched)


@pytest.fixture
def engine(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("scope", ["one Session", "scoped_session, stored", "scoped_session", "a Session each"])
def test_threads(scope, engine, caplog):
    """One Session in two threads is told once, with both names; a registry that is asked each time tells nothing."""
    registry = scoped_session(sessionmaker(engine, class_=Watched))
    stored = registry()
    one = Watched(engine)
    take = {
        "one Session": lambda: one,
        "scoped_session, stored": lambda: stored,
        "scoped_session": registry,
        "a Session each": lambda: Watched(engine),
    }[scope]

    def work():
        session = take()
        session.execute(ASK)
        session.execute(ASK)
        session.close()

    for name in ("first", "second"):
        thread = threading.Thread(target=work, name=name)
        thread.start()
        thread.join()

    shared = ["one Session, 2 users: thread first, thread second"]
    assert (shared if scope in ("one Session", "scoped_session, stored") else []) == _told(caplog)


@pytest.mark.parametrize("shared", [True, False])
def test_tasks(shared, database, caplog):
    """So is an AsyncSession in two tasks, one after the other."""
    engine = create_async_engine(**arguments("asyncpg", database("asyncpg")))

    async def main():
        async with AsyncSession(engine, sync_session_class=Watched) as one:

            async def work():
                async with AsyncSession(engine, sync_session_class=Watched) as own:
                    await (one if shared else own).execute(ASK)

            for name in ("first", "second"):
                await asyncio.create_task(work(), name=name)
        await engine.dispose()

    asyncio.run(main())

    assert (["one Session, 2 users: task first, task second"] if shared else []) == _told(caplog)


def _told(caplog):
    return [record.message for record in caplog.records if record.name == "who_shares"]
