"""The tables and the engine of a small shop, for the programs whose logs :mod:`lab.logs` records.

The programs are written as people write theirs: what goes wrong in them is not caught, and ends in the log.
"""

from __future__ import annotations

import json
import os

from sqlalchemy import ForeignKey, String, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

settings = json.loads(os.environ["LAB_APP"])
URL = settings["engine"]["url"]


class Base(DeclarativeBase):
    pass


class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(String(50), unique=True)
    orders: Mapped[list[Order]] = relationship(back_populates="customer")


class Order(Base):
    __tablename__ = "purchase"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    customer: Mapped[Customer] = relationship(back_populates="orders")


class Item(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(50))
    stock: Mapped[int]


def make_engine(**options):
    """An engine of the caller's own, as the settings say and *options* add."""
    arguments = settings["engine"]
    connect_args = {**arguments.get("connect_args", {}), **options.pop("connect_args", {})}
    return create_engine(**{**arguments, **options, "connect_args": connect_args})


def fill(engine) -> None:
    """Make the tables, with a few rows, and leave no connection behind."""
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Customer(id=n, email=f"c{n}@example.org") for n in (1, 2, 3)])
        session.add_all([Item(id=n, name=f"item {n}", stock=10) for n in (1, 2, 3)])
        session.flush()
        session.add_all([Order(id=n, customer_id=n) for n in (1, 2, 3)])
        session.commit()
    engine.dispose()
