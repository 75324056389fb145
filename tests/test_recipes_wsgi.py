"""The recipes wsgi_session and flask_session: when a request's Session is made and closed, and who gets it."""

import contextlib
import contextvars
import json
import os
import subprocess
import sys
import threading

import pytest
from flask import Flask, Response
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.orm import scoped_session, sessionmaker

from lab.hazards import FLASK_RECIPE
from lab.process import ROOT, environment
from lab.scopes import RECIPE
from lab.wsgi import exchange
from recipes import flask_session, wsgi_session

OLDEST = str(ROOT / ".venv" / "oldest")
FLASKS = ["", "2.3.3", "3.1.1", "3.1.2"]


def _application(view):
    """The application that answers with what *view* returns."""

    def application(environ, start_response):
        start_response("200 OK", [])
        return view()

    return application


def _wsgi(view, make_session):
    return wsgi_session.install(_application(view), make_session), wsgi_session.get_session


def _flask(view, make_session):
    app = Flask("shop")
    app.get("/")(lambda: Response(view()))
    return flask_session.install(app, make_session), flask_session.get_session


def _registry(view, make_session):
    """The hazard: the thread's Session, which nothing removes."""
    registry = scoped_session(make_session)
    return _application(view), registry


RECIPES = pytest.mark.parametrize("way", [_wsgi, _flask])
WAYS = pytest.mark.parametrize(("way", "cured"), [(_wsgi, True), (_flask, True), (_registry, False)])


@pytest.fixture
def engine():
    engine = create_engine("sqlite://", poolclass=QueuePool)
    yield engine
    engine.dispose()


@pytest.fixture
def shop(engine):
    """A function that serves a view in some way, and the Sessions that its requests made."""
    made = []
    make = sessionmaker(engine)

    def make_session():
        made.append(make())
        return made[-1]

    def serve(way, view):
        """*view* is given the function that returns the request's Session, and returns the body."""
        app, get_session = way(lambda: view(get_session), make_session)
        return app

    yield serve, made
    for session in made:
        session.close()


def _words(get_session, *words):
    for word in words:
        yield get_session().scalar(text("select :word"), {"word": word}).encode()


@WAYS
def test_the_session_outlives_no_response(way, cured, shop, engine):
    """While the body is sent the connection is checked out; when it is complete, it is not."""
    serve, _ = shop
    counts = []

    def view(get_session):
        for word in _words(get_session, "one", "two"):
            counts.append(engine.pool.checkedout())
            yield word

    assert b"onetwo" == exchange(serve(way, view), "/").body
    assert ([1, 1], 0 if cured else 1) == (counts, engine.pool.checkedout())


@WAYS
def test_interleaved_requests_of_one_thread_have_a_session_each(way, cured, shop):
    """Two bodies that are iterated in turn, as an event-driven server does, do not share a Session."""
    serve, made = shop
    app = serve(way, lambda get_session: _words(get_session, "one", "two"))
    bodies = [app(_environ(), lambda *_: None) for _ in range(2)]
    chunks = [iter(body) for body in bodies]
    turns = [next(each) for _ in range(2) for each in chunks]
    for body in bodies:
        body.close()

    assert [b"one", b"one", b"two", b"two"] == turns
    assert (2 if cured else 1) == len(made)


def _environ():
    seen = {}
    exchange(lambda environ, start_response: seen.update(environ) or (), "/")
    return seen


@WAYS
def test_a_request_never_sees_the_session_of_another(way, cured, shop):
    """Each request has a Session of its own, the same at every call."""
    serve, made = shop
    seen = []

    def view(get_session):
        seen.append([get_session() for _ in range(2)])
        return [str(len({id(session) for session in seen[-1]})).encode()]

    app = serve(way, view)
    assert [b"1", b"1"] == [exchange(app, "/").body for _ in range(2)]
    assert (2 if cured else 1) == len(made)


@RECIPES
def test_a_request_that_asks_for_none_makes_none(way, shop):
    """No Session is made for a request that does not want one."""
    serve, made = shop

    assert b"static" == exchange(serve(way, lambda get_session: [b"static"]), "/").body
    assert [] == made


@WAYS
def test_what_is_not_committed_is_rolled_back(way, cured, shop, engine):
    """The end of a request never commits."""
    serve, made = shop
    rolled_back = []

    def view(get_session):
        session = get_session()
        session.execute(text("create table if not exists kept (n int)"))
        session.commit()
        session.execute(text("insert into kept values (1)"))
        return [b"done"]

    app = serve(way, view)
    exchange(app, "/")
    rolled_back.append(not made[0].in_transaction())

    with engine.connect() as connection:
        kept = connection.scalar(text("select count(*) from kept")) if cured else None
    assert ([cured], 0 if cured else None) == (rolled_back, kept)


@RECIPES
def test_outside_a_request_there_is_none(way, shop):
    """Before, after, and in a context that was kept beyond the response, the function says so."""
    serve, made = shop
    kept = []
    getters = []

    def view(get_session):
        get_session()
        getters.append(get_session)
        kept.append(contextvars.copy_context())
        yield b"done"

    exchange(serve(way, view), "/")
    for ask in (getters[0], lambda: kept[0].run(getters[0])):
        with pytest.raises(RuntimeError, match="outside a request, or install"):
            ask()
    assert 1 == len(made)


@WAYS
def test_a_thread_has_no_part_in_the_session_of_a_request(way, cured, shop):
    """A thread that a request starts is told that it is outside."""
    serve, _ = shop
    told = []

    def ask(get_session):
        try:
            get_session()
            told.append("a Session")
        except RuntimeError as problem:
            told.append(str(problem))

    def view(get_session):
        get_session()
        thread = threading.Thread(target=ask, args=[get_session])
        thread.start()
        thread.join()
        return [b"done"]

    exchange(serve(way, view), "/")
    assert [cured] == ["outside a request" in words for words in told]


class Body:
    """A body whose close() uses the Session, and may fail."""

    def __init__(self, get_session, fails):
        self.get_session, self.fails = get_session, fails

    def __iter__(self):
        return _words(self.get_session, "one")

    def close(self):
        self.get_session().scalar(text("select 1"))
        if self.fails:
            raise ValueError("the body's own close()")


@RECIPES
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("chunks", [None, 0, 1])
def test_the_session_is_closed_after_the_body(way, fails, chunks, shop, engine):
    """The application's own close() may still use the Session; it is closed afterwards, also when that fails."""
    serve, made = shop
    seen = exchange(serve(way, lambda get_session: Body(get_session, fails)), "/", chunks=chunks)

    assert ("builtins.ValueError: the body's own close()" if fails else "") == seen.raised
    assert (1, 0) == (len(made), engine.pool.checkedout())


@pytest.mark.parametrize("body", [[b"one"], (b"one", b"two")])
def test_a_list_stays_a_list(body, shop, engine):
    """A body that is complete when it is returned is passed on as it is, with the Session closed."""
    serve, made = shop
    app = serve(_wsgi, lambda get_session: [get_session().scalar(text("select 1"))] and body)

    assert body is app(_environ(), lambda *_: None)
    assert (1, 0) == (len(made), engine.pool.checkedout())


def test_flasks_own_functions_get_the_session(engine):
    """Error handlers, teardown functions and those called on close belong to the request."""
    app = flask_session.install(Flask("shop"), sessionmaker(engine))
    seen = []

    def note(*_):
        seen.append(flask_session.get_session())
        return "sorry", 500

    app.register_error_handler(500, note)
    app.teardown_request(note)
    app.teardown_appcontext(note)
    app.after_request(lambda response: note() and response.call_on_close(note) and response)
    app.get("/")(lambda: 1 / note()[1] * 0 or 1 / 0)
    with contextlib.closing(app.test_client().get("/")) as response:
        assert 500 == response.status_code

    assert (6, 1, 0) == (len(seen), len(set(seen)), engine.pool.checkedout())


SCRIPT = "import json, sys; from lab.scenes.{scene} import main; print(json.dumps(main(**json.loads(sys.argv[1]))))"


WSGI, FLASK = ("wsgi_requests", RECIPE), ("flask_requests", FLASK_RECIPE)


@pytest.mark.parametrize(
    ("scene", "recipe", "flask", "sqlalchemy"),
    [(*WSGI, "", ""), (*WSGI, "", OLDEST), (*FLASK, "", OLDEST), *((*FLASK, flask, "") for flask in FLASKS)],
)
def test_right_under_every_hazard(scene, recipe, flask, sqlalchemy, tmp_path):
    """With the oldest and the newest SQLAlchemy, and every Flask that is named; without the recipe, none is right."""
    scene_of = {"arguments": {"url": f"sqlite:///{tmp_path / 'app.db'}"}, "database": "sqlite"}
    folder = ROOT / ".venv" / "flask" / flask
    if flask and not folder.exists():
        pytest.skip(f"Flask {flask} is missing; to install it: make setup")
    scene_of |= {"remedies": ["none", recipe], **({"flask": str(folder)} if flask else {})}
    env = environment({"PYTHONPATH": os.pathsep.join(filter(None, [sqlalchemy, str(ROOT)]))})
    command = [sys.executable, "-c", SCRIPT.format(scene=scene), json.dumps(scene_of)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)

    rows = json.loads(done.stdout or done.stderr)
    assert {"right"} == {row["outcome"] for row in rows[recipe].values()}
    assert "right" not in {row["outcome"] for row in rows["none"].values()}


def test_the_two_recipes_are_one():
    """What a request's Session is, and when it is closed, is the same code in both, word for word."""
    ours, flasks = ((ROOT / "recipes" / f"{name}.py").read_text() for name in ("wsgi_session", "flask_session"))

    assert ours.partition("\ndef get_session")[2] == flasks.partition("\ndef get_session")[2] != ""
