"""Pages of an ASGI application that reads and writes through a Session or an AsyncSession that somebody gives it.

Each page is the same for every remedy; :mod:`lab.apps.asgi_ways` decides where its session comes from, and who closes
it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncAttrs
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response, StreamingResponse

OLD, DIRTY = "old", "dirty"
COMMENTS = ("c1", "c2", "c3")
# Seconds that a query sleeps, or a request waits, unless it is cancelled.
ASLEEP = 20


class Base(AsyncAttrs, DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]
    comments: Mapped[list[Comment]] = relationship(order_by="Comment.id")


class Comment(Base):
    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True)
    page_id: Mapped[int] = mapped_column(ForeignKey("page.id"))
    text: Mapped[str]


class Hit(Base):
    __tablename__ = "hit"
    id: Mapped[int] = mapped_column(primary_key=True)


def fill(engine: Engine) -> None:
    """Make the tables and the one page."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Page(id=1, body=OLD, comments=[Comment(text=text) for text in COMMENTS]))
        session.commit()


def load(session: Session) -> Page:
    return session.scalars(select(Page)).one()


def spoil(session: Session) -> Page:
    """Change the page and send the change, without a commit."""
    page = load(session)
    page.body = DIRTY
    session.flush()
    return page


def texts(session: Session) -> list[str]:
    return list(session.scalars(select(Comment.text).order_by(Comment.id)))


def hit(session: Session) -> None:
    session.add(Hit())
    session.commit()


class Notes:
    """What the pages let the scene know: what a background task ``said``, and how many views are ``running``.

    A view in a thread, which cannot be cancelled, waits at the ``gate``.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.running = 0
        self.gate = threading.Event()

    def __enter__(self) -> None:
        self.running += 1

    def __exit__(self, *problem: object) -> None:
        self.running -= 1


class Pages:
    """The pages for a Session, each a function from its session to a response.

    Args:
        way: where a streamed body and a background task get theirs.
    """

    def __init__(self, way: Any, notes: Notes) -> None:
        self.way, self.notes, self.said = way, notes, notes.said

    def plain(self, session: Session) -> Response:
        return PlainTextResponse(load(session).body)

    def stream(self, session: Session | None) -> Response:
        return StreamingResponse(self._lazily(session and load(session)))

    def _lazily(self, page: Page | None) -> Iterator[str]:
        with self.way.in_body(needed=page is None) as session:
            page = page or load(session)
            yield page.body
            for comment in page.comments:
                yield comment.text

    def rows(self, session: Session | None) -> Response:
        return StreamingResponse(self._asking(session))

    def _asking(self, session: Session | None) -> Iterator[str]:
        with self.way.in_body(needed=session is None) as own:
            # The first part asks nothing: what follows is asked once it has been taken.
            yield OLD
            yield from texts(session or own)

    def endless(self, session: Session | None) -> Response:
        return StreamingResponse(self._endlessly(session))

    def _endlessly(self, session: Session | None) -> Iterator[str]:
        with self.way.in_body(needed=session is None) as own:
            yield load(session or own).body
            # Long enough to be left, and not for ever.
            for _ in range(3000):
                time.sleep(0.01)
                yield "."

    def midfail(self, session: Session | None) -> Response:
        if session:
            spoil(session)
        return StreamingResponse(self._failing(session))

    def _failing(self, session: Session | None) -> Iterator[str]:
        with self.way.in_body(needed=session is None) as own:
            if own:
                spoil(own)
            yield OLD
            raise RuntimeError("the stream fails")

    def fail(self, session: Session) -> Response:
        spoil(session)
        raise RuntimeError("the view fails")

    def refuse(self, session: Session) -> Response:
        spoil(session)
        raise HTTPException(409)

    def flush(self, session: Session) -> Response:
        spoil(session)
        return PlainTextResponse(OLD)

    def task_lazy(self, session: Session) -> Response:
        return PlainTextResponse(OLD, background=BackgroundTask(self._late, load(session)))

    def _late(self, page: Page) -> None:
        self._say(lambda: [comment.text for comment in page.comments])

    def task_query(self, session: Session) -> Response:
        load(session)
        return PlainTextResponse(OLD, background=BackgroundTask(self._query, session))

    def _query(self, session: Session) -> None:
        self._say(lambda: texts(self.way.again(session)))

    def _say(self, ask: Callable[[], list[str]]) -> None:
        self.said.append("asks")
        self.said[-1] = "".join(ask())

    def slow(self, session: Session) -> Response:
        raise NotImplementedError("a query in a thread cannot be cancelled")

    def idle(self, session: Session) -> Response:
        load(session)
        self.said.append("waits")
        self.notes.gate.wait(30)
        return PlainTextResponse(OLD)

    def next(self, session: Session) -> Response:
        hit(session)
        return PlainTextResponse("done")


STREAMS = ("stream", "rows", "midfail", "endless")
PATHS = (*STREAMS, "plain", "fail", "refuse", "flush", "task_lazy", "task_query", "slow", "idle", "next")
