"""The shop's background jobs in Celery, with their mistakes."""

from __future__ import annotations

import asyncio

from celery import Celery
from celery.utils.log import get_task_logger
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.scenes.log_models import Customer, Item, make_engine, settings

log = get_task_logger(__name__)
app = Celery("shop", broker=settings["broker"])
app.conf.update(task_ignore_result=True, broker_connection_max_retries=2, broker_connection_retry_on_startup=True)
asynchronous = "async" in settings["engine"]["url"]
if asynchronous:
    async_engine = create_async_engine(**settings["engine"])
else:
    engine = make_engine(**settings.get("options", {}))
    Sessions = scoped_session(sessionmaker(engine))

if settings.get("reads_at_import"):
    with engine.connect() as connection:
        connection.execute(text("select count(*) from item")).scalar_one()


@app.task(name="shop.count_items")
def count_items():
    with Session(engine) as session:
        log.info("%s items", len(session.scalars(select(Item)).all()))


@app.task(name="shop.sell")
def sell(number, times=1):
    for _ in range(times):
        with Session(engine) as session:
            session.get_one(Item, number).stock -= 1
            session.commit()


@app.task(name="shop.add_item")
def add_item(number):
    Sessions.add(Item(id=number, name="new", stock=1))
    Sessions.commit()


@app.task(name="shop.stock")
def stock(number):
    """The registry's session is the thread's, which is every task's, and the first task's transaction goes on."""
    log.info("stock is %s", Sessions.get(Item, number).stock)


@app.task(name="shop.notify")
def notify(number):
    with Session(engine) as session:
        customer = session.get_one(Customer, number)
        session.commit()
    log.info("mail to %s", customer.email)


@app.task(name="shop.async_count")
def async_count():
    async def count():
        async with AsyncSession(async_engine) as session:
            return len((await session.scalars(select(Item))).all())

    log.info("%s items", asyncio.run(count()))


@app.task(name="shop.currency")
def currency():
    return settings["currency"]
