"""A program of coroutines that share what each should have for itself: ``log_async.py DEED``."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys

import asyncpg
from sqlalchemy import make_url, select, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from lab.scenes.log_models import Base, Customer, Item, Order, settings

logging.basicConfig(format="%(levelname)s:%(name)s:%(message)s", level=logging.INFO)
log = logging.getLogger("worker")
engine = create_async_engine(**settings["engine"], **settings.get("options", {}))


async def fill():
    filler = create_async_engine(**settings["engine"])
    async with filler.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(filler) as session:
        session.add_all([Customer(id=n, email=f"c{n}@example.org") for n in (1, 2, 3)])
        session.add_all([Item(id=n, name=f"item {n}", stock=10) for n in (1, 2, 3)])
        await session.flush()
        session.add_all([Order(id=n, customer_id=n) for n in (1, 2, 3)])
        await session.commit()
    await filler.dispose()


async def name_of(session, number):
    return await session.scalar(select(Item.name).where(Item.id == number))


async def gathered():
    """Two queries at once on a session that has a connection."""
    async with AsyncSession(engine) as session:
        await name_of(session, 1)
        log.info("%s", await asyncio.gather(name_of(session, 2), name_of(session, 3)))


async def gathered_first():
    """Two queries at once on a new session."""
    async with AsyncSession(engine) as session:
        log.info("%s", await asyncio.gather(name_of(session, 2), name_of(session, 3)))


async def one_connection():
    """Two tasks on one connection of asyncpg."""
    connection = await asyncpg.connect(settings["engine"]["url"].replace("+asyncpg", ""), ssl="disable")
    log.info(
        "%s", await asyncio.gather(*(connection.fetchval("select name from item where id = $1", n) for n in (1, 2)))
    )


async def rolled_back():
    """A task gives up the session in which another one waits for an answer."""
    session = AsyncSession(engine)
    await name_of(session, 1)
    report = asyncio.create_task(session.execute(text("select pg_sleep(1)")))
    await asyncio.sleep(0.2)
    await session.rollback()
    await report


async def fails(session):
    await asyncio.sleep(0)
    raise ValueError("no such voucher")


async def leaves_early():
    """One of two tasks fails, and the session is closed while the other still connects."""
    async with AsyncSession(engine) as session:
        await asyncio.gather(name_of(session, 1), fails(session))


async def lazy():
    async with AsyncSession(engine) as session:
        order = await session.get_one(Order, 1)
        log.info("to %s", order.customer.email)


async def expired():
    async with AsyncSession(engine) as session:
        item = await session.get_one(Item, 1)
        item.stock -= 1
        await session.commit()
        log.info("stock is %d", item.stock)


async def job(number):
    async with AsyncSession(engine) as session:
        log.info("job %d: %s", number, await name_of(session, number))


def a_loop_per_job():
    for number in (1, 2, 3):
        try:
            asyncio.run(job(number))
        except Exception:
            log.exception("job %d failed", number)


def loop_ends():
    """The loop ends with connections in the pool, which are closed from the next one."""
    asyncio.run(job(1))
    asyncio.run(engine.dispose())


def closed_at_the_end():
    """The loop ends with connections in the pool, and the engine is disposed of when the program ends."""
    asyncio.run(job(1))
    engine.sync_engine.dispose()


async def forgotten():
    async def handler(number):
        session = AsyncSession(engine)
        log.info("%s", await name_of(session, number))

    for number in (1, 2):
        await handler(number)
        gc.collect()
        await asyncio.sleep(0.05)


async def integrity():
    async with AsyncSession(engine) as session:
        session.add(Customer(id=9, email="c1@example.org"))
        await session.commit()


async def too_many():
    engines = [create_async_engine(**settings["engine"]) for _ in range(settings["engines"])]
    held = [await one.connect() for one in engines]
    log.info("%d connections", len(held))


async def bounced():
    """Many clients of a bouncer that pools by the transaction."""

    async def client(number):
        async with AsyncSession(engine) as session:
            for _ in range(20):
                await name_of(session, number)
                await session.commit()

    await asyncio.gather(*(client(number % 3 + 1) for number in range(6)))


async def idle_dropped():
    """Between two jobs the server ends the session that lies idle in the pool."""
    async with AsyncSession(engine) as session:
        backend = await session.scalar(text("select pg_backend_pid()"))
    administrator = create_async_engine(**settings["engine"])
    async with administrator.connect() as connection:
        await connection.execute(text(f"select pg_terminate_backend({backend})"))
    await asyncio.sleep(0.5)
    await job(1)


async def unawaited():
    """A task that nobody awaits fails."""

    async def audit():
        async with AsyncSession(engine) as session:
            session.add(Customer(id=9, email="c1@example.org"))
            await session.commit()

    task = asyncio.create_task(audit())
    await asyncio.sleep(0.5)
    log.info("request is done")
    del task
    gc.collect()


async def connect():
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))


DEEDS = {name.replace("_", " "): deed for name, deed in globals().items() if callable(deed)}

if __name__ == "__main__":
    if settings.get("fills", True) and make_url(settings["engine"]["url"]).host:
        asyncio.run(fill())
    deed = DEEDS[sys.argv[1]]
    asyncio.run(deed()) if asyncio.iscoroutinefunction(deed) else deed()
