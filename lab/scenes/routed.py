"""A page with a title, and the ways to route a Session over a primary and its standby."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Delete, Engine, Update
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from recipes.read_your_writes import ReadYourWrites

# What the caller does on the primary before the standby is held. Each question has a row of its own.
ROWS = 200
STAGE = (
    "drop table if exists page",
    "create table page (id serial primary key, title text)",
    f"insert into page (title) select 'old' from generate_series(1, {ROWS})",
)


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


class Routed(Session):
    """The example that is copied: https://docs.sqlalchemy.org/en/20/orm/persistence_techniques.html (partitioning)."""

    def __init__(self, *, primary: Engine, replicas: Sequence[Engine], **options: Any) -> None:
        super().__init__(**options)
        self._primary, self._replica = primary, replicas[0]

    def get_bind(self, mapper=None, *, clause=None, **options):
        return self._primary if self._flushing or isinstance(clause, (Update, Delete)) else self._replica


ROUTES: dict[str, Callable[..., sessionmaker]] = {
    "by statement": lambda primary, standby: sessionmaker(class_=Routed, primary=primary, replicas=[standby]),
    "all to the primary": lambda primary, standby: sessionmaker(primary),
    "all to the standby": lambda primary, standby: sessionmaker(standby),
    "read_your_writes": lambda primary, standby: sessionmaker(
        class_=ReadYourWrites, primary=primary, replicas=[standby], seconds=600
    ),
}
