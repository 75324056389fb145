"""The two-minute test of the article on stale data: each cause, made by the real thing, is told from the rest."""

import runpy
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from lab.databases import start
from lab.drivers import arguments
from lab.http_cache import ask, http_cache
from lab.process import ROOT
from lab.replica import replica
from lab.scenes.routed import Page
from lab.servers import gunicorn

which_cause = runpy.run_path(str(ROOT / "docs" / "snippets" / "which_cause.py"))["which_cause"]
WRITE = text("update page set title = 'new'")


@pytest.fixture(scope="module")
def pair():
    with replica() as running:
        running.primary.ask("create table page (id serial primary key, title text)")
        running.primary.ask("insert into page (title) values ('old')")
        yield running


@pytest.fixture
def engines(pair):
    """The primary's and the standby's, over a page that is old again."""
    pair.primary.ask("update page set title = 'old'")
    pair.catch_up()
    found = [create_engine(**arguments("psycopg", one)) for one in (pair.primary, pair.standby)]
    yield found
    for engine in found:
        engine.dispose()


@pytest.mark.parametrize(
    ("isolation", "cause"),
    [("READ COMMITTED", "a held object"), ("REPEATABLE READ", "the transaction's snapshot")],
)
def test_the_object_and_the_snapshot(isolation, cause, engines):
    """An object that is old while its transaction reads the new is held; if both are old it is the snapshot."""
    primary, _ = engines
    with Session(primary.execution_options(isolation_level=isolation)) as session:
        page = session.get(Page, 1)
        _write(primary)
        assert cause == which_cause(session, page, "title", primary, page.title)
        session.rollback()
        assert "none of these" == which_cause(session, page, "title", primary, page.title)


def test_the_replica(pair, engines, capsys):
    """If a new transaction reads the old and the primary has the new it is the replica."""
    primary, standby = engines
    with pair.held(), Session(standby) as session:
        page = session.get(Page, 1)
        _write(primary)
        assert "a replica behind its primary" == which_cause(session, page, "title", primary, page.title)
        assert ["'old'"] * 4 + ["'new'"] == [line.split()[-1] for line in capsys.readouterr().out.splitlines()]


def test_the_http_cache():
    """If the application's own process has the new all the way up it is a cache in front of it."""
    with ExitStack() as stack:
        database = stack.enter_context(start("sqlite"))
        database.ask("create table page (id integer primary key, title text)")
        database.ask("insert into page values (1, 'old')")
        how = {"engine": arguments("sqlite", database), "cache_control": ""}
        server = stack.enter_context(gunicorn("lab.apps.cached_pages", workers=1, settings=how))
        proxy = stack.enter_context(http_cache(server.port))
        engine = create_engine(**arguments("sqlite", database))
        stack.callback(engine.dispose)
        ask(proxy)
        ask(proxy, "/?title=new", method="POST")
        with Session(engine) as session:
            page = session.get(Page, 1)
            assert "an HTTP cache" == which_cause(session, page, "title", engine, ask(proxy).body)
            assert "none of these" == which_cause(session, page, "title", engine, ask(server.port).body)


def test_what_is_not_loaded_is_no_cause(engines):
    """An expired attribute is not old, and looking does not load it."""
    primary, _ = engines
    with Session(primary) as session:
        page = session.get(Page, 1)
        session.expire(page)
        assert "an HTTP cache" == which_cause(session, page, "title", primary, "older")
        assert "title" not in page.__dict__


def _write(engine):
    with engine.begin() as connection:
        connection.execute(WRITE)
