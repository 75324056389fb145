# SPDX-License-Identifier: 0BSD
# Recipe: flask_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#flask-session)
"""Give every request of a Flask application a Session of its own, closed when the response is complete and not before.

Problem: Flask's teardown functions are where a Session is usually removed. For a streamed body that is too early: they
run before the first chunk, since Flask 3.1.2 under ``stream_with_context`` too, and the page is cut off under status
200. And when one of them raises, those that are left are skipped. What comes last is the server's call of the WSGI
response's ``close()``, so the Session is closed there.

Use it when: Flask serves requests with SQLAlchemy's own Session, a sessionmaker for instance.
Not when: Flask-SQLAlchemy makes the Sessions, whose ``db.session`` ends with the application context; and not outside
requests, in a command or a shell, where ``with make_session() as session:`` is all that is needed.

>>> from flask import Flask
>>> from sqlalchemy import QueuePool, create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> app = Flask("shop")
>>> @app.get("/")
... def page():
...     words = get_session().scalars(text("values ('one'), ('two')").execution_options(yield_per=1))
...     return (f"{word} {engine.pool.checkedout()} " for word in words)
>>> install(app, sessionmaker(engine)) is app
True
>>> app.test_client().get("/").text  # the Session is still open while the body is sent
'one 1 two 1 '
>>> engine.pool.checkedout()
0
>>> get_session()
Traceback (most recent call last):
RuntimeError: get_session() was called outside a request, or install() was not

The Session is made at the first call of :func:`get_session` and is never committed here: the view does that. The
function can be called wherever the request's code runs: views, error handlers, teardown functions, and generators, with
or without ``stream_with_context``. A thread that a request starts has no part in the request's Session.
Tested with SQLAlchemy 2.0 and 2.1, Flask 2.3.3, 3.1.1, 3.1.2 and 3.1.3. When Flask tears down is told in
https://github.com/pallets/flask/issues/5804, that a server has to call ``close()`` in
https://peps.python.org/pep-3333/#specification-details
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar

from flask import Flask
from sqlalchemy.orm import Session

_current: ContextVar["_Request"] = ContextVar("flask_session")


def install(app: Flask, make_session: Callable[[], Session]) -> Flask:
    """Give each request of *app* a Session from *make_session*, a sessionmaker for instance, and return *app*."""
    wsgi_app = app.wsgi_app

    def with_session(environ, start_response):
        request = _Request(make_session)
        return _Body(request.run(wsgi_app, environ, start_response), request)

    app.wsgi_app = with_session
    return app


def get_session() -> Session:
    """The request's Session.

    Raises:
        RuntimeError: there is no request in this thread or task, or its response is complete.
    """
    request = _current.get(None)
    if request is None or request.ended:
        raise RuntimeError("get_session() was called outside a request, or install() was not")
    if request.session is None:
        request.session = request.make_session()
    return request.session


class _Request:
    """A request, and its Session, once that was asked for."""

    def __init__(self, make_session):
        self.make_session, self.session, self.ended = make_session, None, False

    def run(self, step: Callable, *arguments):
        """Let the application take a *step* of this request. What it raises, as the body's last step does, closes."""
        token = _current.set(self)
        try:
            return step(*arguments)
        except BaseException:
            self.close()
            raise
        finally:
            _current.reset(token)

    def close(self) -> None:
        if self.session is not None:
            self.session.close()

    def end(self) -> None:
        """Close, and let nobody who kept the request's context open it again."""
        self.ended = True
        self.close()


class _Body:
    """What the application returned, as an iterator whose ``close()`` closes the Session last."""

    def __init__(self, body: Iterable[bytes], request: _Request):
        self._body, self._request, self._chunks = body, request, None

    def __iter__(self):
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._request.run(iter, self._body)
        return self._request.run(next, self._chunks)

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._request.run(self._body.close)
        finally:
            self._request.end()
