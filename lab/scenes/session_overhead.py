"""What a request costs this process in CPU time, with each recipe for sessions and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import PlainTextResponse
from flask import Flask, g
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from lab.scenes.staleness import Base, Page
from lab.turns import Do, take_turns
from lab.wsgi import Application, exchange
from recipes import asgi_session, fastapi_session, flask_session, fresh_reads, wsgi_session
from recipes.read_your_writes import ReadYourWrites

BODY = "old"
WARM_UP = 20


def two_statements(session: Session) -> str:
    """What each request asks: two statements."""
    page = session.get_one(Page, 1)
    return page.body if session.scalar(select(Page.id)) == page.id else ""


def _by_wsgi(app: Application) -> Do:
    def serve(times: int) -> None:
        for _ in range(times):
            has_answered(exchange(app, "/").body.decode())

    return serve


def _by_asgi(app: Callable[..., Any]) -> Do:
    loop = asyncio.new_event_loop()
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def requests(times: int) -> None:
        for _ in range(times):
            sent: list[dict[str, Any]] = []

            async def send(message: dict[str, Any], sent: list[dict[str, Any]] = sent) -> None:
                sent.append(message)

            await app(dict(scope), receive, send)
            has_answered(b"".join(message.get("body", b"") for message in sent).decode())

    return lambda times: loop.run_until_complete(requests(times))


def by_call(view: Callable[[], str]) -> Do:
    def serve(times: int) -> None:
        for _ in range(times):
            has_answered(view())

    return serve


def has_answered(body: str) -> None:
    if body != BODY:
        raise AssertionError(f"asked for {BODY!r}, was given {body!r}")


def _wsgi_app(view: Callable[[], str]) -> Application:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [view().encode()]

    return app


def _wsgi_with(engine: Engine) -> Do:
    return _by_wsgi(_wsgi_app(_viewed_with(sessionmaker(engine))))


def _wsgi_per_query(engine: Engine) -> Do:
    make_session = sessionmaker(engine)

    def view() -> str:
        with make_session() as session:
            page = session.get_one(Page, 1)
        with make_session() as session:
            return page.body if session.scalar(select(Page.id)) == page.id else ""

    return _by_wsgi(_wsgi_app(view))


def _wsgi_recipe(engine: Engine) -> Do:
    app = _wsgi_app(lambda: two_statements(wsgi_session.get_session()))
    return _by_wsgi(wsgi_session.install(app, sessionmaker(engine)))


def _viewed_with(make_session: Callable[[], Session]) -> Callable[[], str]:
    def view() -> str:
        with make_session() as session:
            return two_statements(session)

    return view


def _flask_teardown(engine: Engine) -> Do:
    app, make_session = Flask("pages"), sessionmaker(engine)

    @app.get("/")
    def page() -> str:
        g.session = make_session()
        return two_statements(g.session)

    @app.teardown_appcontext
    def teardown(problem: BaseException | None) -> None:
        g.pop("session").close()

    return _by_wsgi(app)


def _flask_recipe(engine: Engine) -> Do:
    app = Flask("pages")
    app.add_url_rule("/", view_func=lambda: two_statements(flask_session.get_session()), endpoint="page")
    return _by_wsgi(flask_session.install(app, sessionmaker(engine)))


def _asgi_app(view: Callable[[], str]) -> Callable[..., Any]:
    async def app(scope: object, receive: object, send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": view().encode()})

    return app


def _asgi_with(engine: Engine) -> Do:
    return _by_asgi(_asgi_app(_viewed_with(sessionmaker(engine))))


def _asgi_recipe(engine: Engine) -> Do:
    app = _asgi_app(lambda: two_statements(asgi_session.get_session()))
    return _by_asgi(asgi_session.install(app, sessionmaker(engine)))


def _fastapi_app(dependency: Callable[..., Any]) -> FastAPI:
    app = FastAPI()

    # Not async: as it should be with a Session that blocks.
    def page(session=Depends(dependency)) -> PlainTextResponse:  # noqa: B008
        return PlainTextResponse(two_statements(session))

    app.add_api_route("/", page)
    return app


def _fastapi_yield(engine: Engine) -> Do:
    make_session = sessionmaker(engine)

    def dependency():
        with make_session() as session:
            yield session

    return _by_asgi(_fastapi_app(dependency))


def _fastapi_recipe(engine: Engine) -> Do:
    app = fastapi_session.install(_fastapi_app(fastapi_session.get_session), sessionmaker(engine))
    return _by_asgi(app)


def _routed(engine: Engine) -> Do:
    other = create_engine(engine.url)
    return by_call(_viewed_with(sessionmaker(class_=ReadYourWrites, primary=other, replicas=[engine])))


def _again(make_session: Callable[[], Session], reread: Callable[[Session, Page], object]) -> Do:
    def view() -> str:
        with make_session() as session:
            page = session.get_one(Page, 1)
            reread(session, page)
            return page.body

    return by_call(view)


# Each recipe stands beside what is written without it, on the same framework, under ``BESIDE``.
WAYS: dict[str, Callable[[Engine], Do]] = {
    "WSGI, with Session()": _wsgi_with,
    "wsgi_session": _wsgi_recipe,
    "WSGI, a Session for each query": _wsgi_per_query,
    "WSGI, with Session(), pool_pre_ping": _wsgi_with,
    "Flask, teardown_appcontext": _flask_teardown,
    "flask_session": _flask_recipe,
    "ASGI, with Session()": _asgi_with,
    "asgi_session": _asgi_recipe,
    "FastAPI, yield": _fastapi_yield,
    "fastapi_session": _fastapi_recipe,
    "Session": lambda engine: by_call(_viewed_with(sessionmaker(engine))),
    "read_your_writes": _routed,
    "fresh_reads, watch()": lambda engine: by_call(_viewed_with(fresh_reads.watch(sessionmaker(engine)))),
    "Session, refresh()": lambda engine: _again(sessionmaker(engine), lambda session, page: session.refresh(page)),
    "fresh_reads, reread()": lambda engine: _again(sessionmaker(engine), fresh_reads.reread),
}
REREADING = ("Session, refresh()", "fresh_reads, reread()")
BESIDE = {
    "wsgi_session": "WSGI, with Session()",
    "WSGI, a Session for each query": "WSGI, with Session()",
    "WSGI, with Session(), pool_pre_ping": "WSGI, with Session()",
    "flask_session": "Flask, teardown_appcontext",
    "asgi_session": "ASGI, with Session()",
    "fastapi_session": "FastAPI, yield",
    "read_your_writes": "Session",
    "fresh_reads, watch()": "Session",
    "fresh_reads, reread()": "Session, refresh()",
}


def main(
    engines: Mapping[str, Mapping[str, Any]], setup: Mapping[str, Any], rounds: int, requests: int
) -> dict[str, Any]:
    """Return for each round the CPU time per request of each way, in microseconds.

    Args:
        engines: arguments of ``create_engine`` for each way; ``setup`` are those for what is done before.
        rounds: how often the ways take turns.
        requests: how many in each way and round.
    """
    dialect = prepare(setup)
    serving = {}
    for way, make in WAYS.items():
        settings = {**engines[way], "pool_pre_ping": way.endswith("pool_pre_ping")}
        if way in REREADING and dialect != "sqlite":
            # A snapshot it would refuse.
            settings["isolation_level"] = "READ COMMITTED"
        serving[way] = make(create_engine(**settings))
        serving[way](WARM_UP)
    return {"rounds": take_turns(serving, rounds, requests)}


def prepare(setup: Mapping[str, Any]) -> str:
    """Make the table with its page; return the name of the dialect."""
    own = create_engine(**setup)
    Base.metadata.drop_all(own)
    Base.metadata.create_all(own)
    with Session(own) as session, session.begin():
        session.add(Page(id=1, body=BODY))
    own.dispose()
    return own.dialect.name
