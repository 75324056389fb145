"""A page with comments, an engine that an application serves it from, and what a request left behind in both.

What is left is read off three things: the pool, the server's own view of transactions, and the value in the database.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, ForeignKey, NullPool, String, create_engine, event, insert, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

STORED, CHANGED, TOUCHED = "old", "DIRTY", "touched"
COMMENTS = ("c1", "c2", "c3")
WHOLE = "".join((STORED, *COMMENTS))

OPEN = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and state like 'idle in transaction%'",
    "mariadb": "select count(*) from information_schema.innodb_trx",
}
# What innodb_trx says is kept for a tenth of a second.
_KEPT = {"mariadb": 0.11}


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(String(20))
    comments: Mapped[list[Comment]] = relationship(order_by="Comment.id")


class Comment(Base):
    __tablename__ = "comment"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    page_id: Mapped[int] = mapped_column(ForeignKey("page.id"))
    body: Mapped[str] = mapped_column(String(20))


class Truth:
    """The lab's own view of the database, over connections of its own.

    Args:
        arguments: those of ``create_engine``, for the application's engine and for the lab's own.
        database: the kind of server.
    """

    def __init__(self, arguments: Mapping[str, Any], database: str) -> None:
        self._arguments, self._database = dict(arguments), database
        self._own = create_engine(**arguments, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def rewind(self) -> None:
        """Make the tables, and fill them: two pages, the first with three comments."""
        Base.metadata.create_all(self._own)
        with self._own.connect() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
            connection.execute(insert(Page), [{"id": n, "body": STORED} for n in (1, 2)])
            comments = enumerate(COMMENTS, 1)
            connection.execute(insert(Comment), [{"id": n, "page_id": 1, "body": body} for n, body in comments])

    def engine(self, **options: Any) -> Engine:
        """A new engine for the application."""
        # A second writer of SQLite would wait for five seconds.
        arguments = self._arguments | ({"connect_args": {"timeout": 0.1}} if self._database == "sqlite" else {})
        engine = create_engine(**arguments, **options)
        self._opened: list[Any] = []
        event.listen(engine, "connect", lambda dbapi_connection, record: self._opened.append(dbapi_connection))
        return engine

    def open_transactions(self) -> int:
        """How many transactions of others the server has open; for SQLite, where nobody serves, the driver."""
        if self._database == "sqlite":
            return sum(connection.in_transaction for connection in self._opened)
        time.sleep(_KEPT.get(self._database, 0))
        with self._own.connect() as connection:
            return connection.scalar(text(OPEN[self._database]))

    def stored(self, page: int = 1) -> str:
        """What the database holds of the body of *page*."""
        with self._own.connect() as connection:
            return connection.scalar(select(Page.body).where(Page.id == page))


def written(page: Page) -> list[str]:
    """The page as a whole, comments included."""
    return [page.body, *(comment.body for comment in page.comments)]


def change(session: Session) -> Page:
    """Do half of what a request is to do: change the page, flush, do not commit."""
    page = session.get_one(Page, 1)
    page.body = CHANGED
    session.flush()
    return page


def touch(session: Session) -> str:
    """Do what the next request does: read the first page, change the second, commit; return what it read."""
    seen = session.get_one(Page, 1).body
    session.get_one(Page, 2).body = TOUCHED
    session.commit()
    return seen


def same(message: str) -> str:
    """*message* without what differs from run to run: addresses in memory."""
    return re.sub(r"0x[0-9a-f]+", "0x…", message)
