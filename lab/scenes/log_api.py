"""The shop's API in FastAPI, with its mistakes."""

from __future__ import annotations

import time
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from lab.scenes.log_models import Customer, Item, make_engine, settings

application = FastAPI()
if "asyncpg" in settings["engine"]["url"]:
    async_engine = create_async_engine(**settings["engine"], **settings.get("options", {}))
else:
    engine = make_engine(**settings.get("options", {}))
forgotten = []
connection = None


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    id: int


class CustomerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    email: str
    orders: list[OrderOut]


def get_db():
    with Session(engine) as session:
        yield session


async def get_async_db():
    async with AsyncSession(async_engine) as session:
        yield session


@application.get("/items")
def items(db: Annotated[Session, Depends(get_db)]) -> list[str]:
    names = list(db.scalars(select(Item.name)))
    # A slow step while the connection is held.
    time.sleep(settings.get("slow", 0))
    return names


def current_user(db: Annotated[Session, Depends(get_db)]) -> Customer:
    user = db.get_one(Customer, 1)
    time.sleep(settings.get("slow", 0))
    return user


@application.get("/me")
def me(user: Annotated[Customer, Depends(current_user)]) -> str:
    return user.email


@application.get("/leak")
def leak() -> str:
    session = Session(engine)
    forgotten.append(session)
    return session.scalars(select(Item.name)).first()


@application.get("/raw/{number}")
async def raw(number: int) -> str:
    """The connection that the first request opened is everybody's."""
    global connection
    connection = connection or await asyncpg.connect(settings["engine"]["url"].replace("+asyncpg", ""), ssl="disable")
    return await connection.fetchval("select name from item where id = $1 and pg_sleep(0.5) is not null", number)


@application.get("/customers/{number}", response_model=CustomerOut)
async def customer(number: int, db: Annotated[AsyncSession, Depends(get_async_db)]):
    return await db.get_one(Customer, number)


@application.get("/closed/{number}", response_model=CustomerOut)
def closed(number: int):
    with Session(engine) as session:
        return session.get_one(Customer, number)


@application.get("/add/{number}")
def add(number: int, db: Annotated[Session, Depends(get_db)]) -> str:
    db.add(Item(id=number, name="new", stock=1))
    db.commit()
    return "added"
