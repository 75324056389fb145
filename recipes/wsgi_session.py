# SPDX-License-Identifier: 0BSD
# Recipe: wsgi_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#wsgi-session)
"""Give every request of a WSGI application a Session of its own, closed when the response is complete and not before.

Problem: ``Session.remove()`` after ``app(environ, start_response)`` comes too early for a body that is still to be
iterated, which is cut off under status 200, and does not come at all after an exception, whose half-done work the next
request in that thread then commits. What comes last in a WSGI response is the server's call of its ``close()``.

Use it when: the application is WSGI, with a framework that has nothing better, or with none.
Not when: it is Flask's or an ASGI framework's; flask_session, asgi_session and fastapi_session have the same two
functions. Nor around a middleware that keeps ``close()`` to itself: place this one inside.

>>> from sqlalchemy import QueuePool, create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine("sqlite://", poolclass=QueuePool)
>>> def page(environ, start_response):
...     start_response("200 OK", [("Content-Type", "text/plain")])
...     for word in ("one", "two"):
...         yield get_session().scalar(text("select :word"), {"word": word}).encode()
>>> application = install(page, sessionmaker(engine))
>>> body = application({}, lambda status, headers: None)
>>> next(iter(body)), engine.pool.checkedout()
(b'one', 1)
>>> body.close()  # the server, whether the client is served or gone
>>> engine.pool.checkedout()
0
>>> get_session()
Traceback (most recent call last):
RuntimeError: get_session() was called outside a request, or install() was not

The Session is made at the first call of :func:`get_session` and is never committed here: the application does that.
A thread that a request starts has no part in the request's Session. A list of chunks, which is complete when it is
returned, is passed on as it is, so that the server can still tell its length; a ``wsgi.file_wrapper`` is no longer one.
Tested with SQLAlchemy 2.0 and 2.1 under Apache with mod_wsgi, gunicorn, uWSGI, waitress, granian, Werkzeug and wsgiref.
That the server has to call ``close()`` is promised in https://peps.python.org/pep-3333/#specification-details
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar

from sqlalchemy.orm import Session

_current: ContextVar["_Request"] = ContextVar("wsgi_session")


def install(app: Callable, make_session: Callable[[], Session]) -> Callable:
    """Return the application to serve: *app*, with a Session for each request, from a sessionmaker for instance."""

    def application(environ, start_response):
        request = _Request(make_session)
        body = request.run(app, environ, start_response)
        if type(body) in (list, tuple):
            request.end()
            return body
        return _Body(body, request)

    return application


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
