"""The recipes for a session per ASGI request: what is promised of them, and the hazard in their place as control."""

import asyncio
import inspect
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy import create_engine, select, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import sessionmaker
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from lab.apps.asgi_pages import Base, Hit, fill
from lab.drivers import arguments
from lab.process import play
from lab.scenes.asgi_client import HAZARDS, ONLY_FASTAPI, ONLY_IN_LOOP, Client, Hazard
from recipes import asgi_session, fastapi_session

RECIPES = {"recipe asgi_session": "none", "recipe fastapi_session": "yield, then close()"}
SCENE = "lab.scenes.asgi_requests"
MODULES = {"asgi_session": asgi_session, "fastapi_session": fastapi_session}


@pytest.fixture
def engine(tmp_path):
    """An engine with the pages' tables, in a file."""
    engine = create_engine(f"sqlite:///{tmp_path / 'pages.db'}")
    fill(engine)
    yield engine
    engine.dispose()


@pytest.mark.parametrize("name", ["sqlite", "psycopg", "asyncpg"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_request_ends_well(recipe, name, database):
    """Whatever happens to a request, nothing of it is cut short, left open or handed on; with the hazard much is."""
    running = database(name)
    plain = arguments("psycopg" if running.kind == "postgresql" else "sqlite", running)
    _empty(plain)
    remedies = [recipe, RECIPES[recipe]]
    how = {"engine": arguments(name, running), "plain": plain, "loop": name == "asyncpg"}
    told = play(SCENE, patience=100, **how, remedies=remedies)["told"]
    words = [{row: seen["word"] for row, seen in told[remedy][0].items()} for remedy in remedies]

    left_out = {*(() if name == "asyncpg" else ONLY_IN_LOOP), *(ONLY_FASTAPI if "asgi" in recipe else ())}
    assert dict.fromkeys(set(HAZARDS) - left_out, "right") == words[0]
    assert len([word for word in words[1].values() if word != "right"]) >= 7


@pytest.mark.parametrize("remedy", ["recipe asgi_session", "remove() in the event loop"])
def test_threads_of_the_pool_keep_no_session(remedy, engine):
    """Endpoints in the thread pool leave nothing behind; a registry that goes by thread, removed in the loop, does."""
    found = play("lab.scenes.asgi_threads", engine={"url": str(engine.url) + "2"}, remedy=remedy, endpoints="def")

    assert 5 == found["threads"]
    assert (found["out"], found["dirty"]) == ((0, False) if remedy.startswith("recipe") else (5, True))


@pytest.mark.parametrize("recipe", MODULES)
def test_outside_a_request_there_is_no_session(recipe, engine):
    """Before, after and outside a request get_session() says so, also to a task that has outlived its request."""
    late = []

    async def outlives():
        await asyncio.sleep(0.05)
        try:
            MODULES[recipe].get_session()
        except RuntimeError as problem:
            late.append(str(problem))

    async def view(request):
        MODULES[recipe].get_session()
        late.append(asyncio.create_task(outlives()))
        return PlainTextResponse("done")

    async def play_request():
        await _request(_installed(recipe, engine, view))
        await late[0]

    asyncio.run(play_request())
    with pytest.raises(RuntimeError, match="not within a request"):
        MODULES[recipe].get_session()

    assert late[1].startswith("no session: ")
    assert 0 == engine.pool.checkedout()


@pytest.mark.parametrize("recipe", MODULES)
def test_it_is_one_session_and_never_commits(recipe, engine):
    """Within a request it is always the same Session, another one in the next, and what is not committed is gone."""
    seen = []

    def view(request):
        session = MODULES[recipe].get_session()
        seen.append((session, MODULES[recipe].get_session()))
        session.add(Hit())
        session.flush()
        return PlainTextResponse("done")

    for _ in range(2):
        asyncio.run(_request(_installed(recipe, engine, view)))
    (first, again), (second, _) = seen

    assert first is again
    assert first is not second
    with engine.connect() as connection:
        assert [] == connection.execute(select(Hit)).all()


@pytest.mark.parametrize("recipe", MODULES)
def test_no_session_is_made_for_a_request_that_asks_for_none(recipe, engine):
    """A request that never calls get_session() costs nothing."""

    def make():
        raise AssertionError("nobody asked")

    async def view(request):
        return PlainTextResponse("done")

    assert 200 == asyncio.run(_request(_installed(recipe, engine, view, make)))


@pytest.mark.parametrize("cancellations", [1, 3])
@pytest.mark.parametrize("recipe", [*MODULES, "finally: await close()"])
def test_a_cancelled_close_is_finished(recipe, cancellations, database):
    """However often the request is cancelled while its AsyncSession closes, the close comes to its end; a bare await
    of it does not.
    """
    found = asyncio.run(_cancelled_in_close(recipe, cancellations, arguments("asyncpg", database("asyncpg"))))

    assert ((True, ["begins", "ends"], 0) if recipe in MODULES else (True, ["begins"], 1)) == found


async def _cancelled_in_close(recipe, cancellations, where):
    engine = create_async_engine(**where)
    closes, bare = [], []

    class SlowlyClosed(AsyncSession):
        async def close(self):
            closes.append("begins")
            await asyncio.sleep(0.1)
            await super().close()
            closes.append("ends")

    make = async_sessionmaker(engine, class_=SlowlyClosed)

    async def view(request):
        session = MODULES[recipe].get_session() if recipe in MODULES else bare[0]
        await session.execute(text("select 1"))
        return PlainTextResponse("done")

    async def closing(scope, receive, send):
        bare.append(make())
        try:
            await Starlette(routes=[Route("/page", view)])(scope, receive, send)
        finally:
            await bare[0].close()

    task = asyncio.ensure_future(_request(_installed(recipe, None, view, make) if recipe in MODULES else closing))
    while not closes:
        await asyncio.sleep(0.005)
    for _ in range(cancellations):
        task.cancel()
        await asyncio.sleep(0.005)
    await asyncio.wait([task], timeout=10)
    found = task.cancelled(), list(closes), engine.pool.checkedout()
    for session in bare:
        await session.close()
    await engine.dispose()
    return found


def test_fastapi_gets_its_application_back(engine):
    """install() returns the application that it was given, whose dependency is the request's one Session."""
    app = FastAPI()
    seen = []

    async def deep():
        return fastapi_session.get_session()

    @app.get("/page")
    async def page(session: Annotated[AsyncSession, Depends(fastapi_session.get_session)]):
        seen.append(session is await deep())
        return {}

    assert app is fastapi_session.install(app, sessionmaker(engine))
    assert 200 == asyncio.run(_request(app))
    assert [True] == seen


def _empty(arguments):
    """Drop the tables, which the scene makes."""
    engine = create_engine(**arguments)
    Base.metadata.drop_all(engine)
    engine.dispose()


def _installed(recipe, engine, view, make=None):
    make = make or sessionmaker(engine)
    if recipe == "fastapi_session":
        app = FastAPI(routes=[Route("/page", view)])
        return fastapi_session.install(app, make)
    return asgi_session.install(Starlette(routes=[Route("/page", view)]), make)


async def _request(app):
    client = Client(Hazard("page"))
    await app(client.scope, client.receive, client.send)
    return client.status


@pytest.mark.parametrize("part", ["class _Request:", "    request = _request.get(None)", "async def _close("])
def test_the_two_recipes_share_it(part):
    """What a request's Session is, and how it is closed, is the same code in both, word for word."""
    texts = [inspect.getsource(module) for module in MODULES.values()]
    blocks = [text.partition(f"\n{part}")[2].partition("\n\n\n")[0] for text in texts]

    assert blocks[0] == blocks[1] != ""
