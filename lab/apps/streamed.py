"""An application that serves a page with comments: whole, streamed, from a generator, or failing half-way.

In a scene it is called in-process; under a server it is made from ``LAB_APP``.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.orm import Session, sessionmaker

from lab.pages import STORED, Page, change, touch, written
from lab.scopes import scoped
from lab.wsgi import Application

# More than the sockets and buffers between a server and a client that does not read will hold.
BLOCK, BLOCKS = b"x" * 65536, 600
StartResponse = Callable[..., Any]


class ViewError(RuntimeError):
    """What the application itself raises."""


class Streamed:
    """The application; *get_session* gives the request's Session."""

    def __init__(self, get_session: Callable[[], Session]) -> None:
        self._session = get_session

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return getattr(self, environ["PATH_INFO"].strip("/").replace("-", "_"))(start_response)

    def whole(self, start_response: StartResponse) -> Iterable[bytes]:
        body = "".join(written(self._page()))
        start_response("200 OK", [])
        return [body.encode()]

    def streamed(self, start_response: StartResponse) -> Iterable[bytes]:
        """The comments are loaded when their turn comes."""
        page = self._page()
        start_response("200 OK", [])
        return _lazily(page)

    def generated(self, start_response: StartResponse) -> Iterator[bytes]:
        """A generator: nothing of it runs before the first chunk is asked for."""
        page = self._page()
        start_response("200 OK", [])
        yield from _lazily(page)

    def fails(self, start_response: StartResponse) -> Iterable[bytes]:
        change(self._session())
        raise ViewError("before the body")

    def fails_later(self, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        return self._failing()

    def endless(self, start_response: StartResponse) -> Iterable[bytes]:
        """More than a client takes that is gone."""
        self._page()
        start_response("200 OK", [])
        return map(_slowly, range(BLOCKS))

    def touch(self, start_response: StartResponse) -> Iterable[bytes]:
        """What the next request does: it reads one page, changes another, commits."""
        seen = touch(self._session())
        start_response("200 OK", [])
        return [seen.encode()]

    def _page(self) -> Page:
        return self._session().get_one(Page, 1)

    def _failing(self) -> Iterator[bytes]:
        yield STORED.encode()
        change(self._session())
        raise ViewError("in mid-stream")


def _lazily(page: Page) -> Iterator[bytes]:
    yield page.body.encode()
    for comment in page.comments:
        yield comment.body.encode()


def _slowly(block: int) -> bytes:
    time.sleep(0.002)
    return BLOCK


class Watched:
    """The outermost layer: notes what the server does with the body that it is given."""

    def __init__(self, app: Application, note: Callable[..., None]) -> None:
        self.app, self.note = app, note

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return WatchedBody(self.app(environ, start_response), self.note, environ["PATH_INFO"])


class WatchedBody:
    def __init__(self, body: Iterable[bytes], note: Callable[..., None], path: str) -> None:
        self.body, self.note, self.path, self.chunks, self.end = body, note, path, 0, ""

    def __iter__(self) -> Iterator[bytes]:
        chunks = iter(self.body)
        while True:
            try:
                chunk = next(chunks)
            except StopIteration:
                self.end = "to the end"
                return
            except Exception as problem:
                self.end = type(problem).__name__
                raise
            self.chunks += 1
            yield chunk

    def close(self) -> None:
        if hasattr(self.body, "close"):
            self.body.close()
        self.note("close", path=self.path, chunks=self.chunks, end=self.end)


def _from_settings(settings: dict[str, Any]) -> Application:
    # Whatever a request leaves behind is to stay until it is looked at.
    gc.disable()
    engine = create_engine(**settings["engine"])
    app = scoped(Streamed, sessionmaker(engine), settings["remedy"])

    def note(event: str, **facts: object) -> None:
        with open(os.path.join(settings["home"], "report"), "a") as report:
            report.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")

    return Watched(app, note)


if "LAB_APP" in os.environ:
    application = _from_settings(json.loads(os.environ["LAB_APP"]))
