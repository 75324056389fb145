"""A program whose threads share what each should have for itself: ``log_threads.py DEED``."""

from __future__ import annotations

import logging
import sqlite3
import sys
import threading

from sqlalchemy import event, select, text
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool

from lab.scenes.log_models import Customer, Item, Order, fill, make_engine, settings

logging.basicConfig(format="%(asctime)s [%(threadName)s] %(levelname)s %(name)s: %(message)s", level=logging.INFO)
log = logging.getLogger("shop.worker")


def thread(name, target, *arguments):
    started = threading.Thread(name=name, target=target, args=arguments)
    started.start()
    return started


def while_another(session, target, moment, first, second):
    """Let *second* run in a thread while *first* stands at *moment* in another."""
    there, go = threading.Event(), threading.Event()

    @event.listens_for(target, moment, once=True)
    def stand(*_, **__):
        there.set()
        go.wait(20)

    worker = thread("worker-1", first, session)
    there.wait(20)
    thread("worker-2", second, session).join()
    go.set()
    worker.join()


def sell(session):
    session.get_one(Item, 1).stock -= 1
    session.commit()


def count(session):
    log.info("%s items", len(session.scalars(select(Item)).all()))


def restock(session):
    session.get_one(Item, 2).stock += 5
    session.flush()


def flush(session):
    session.flush()


def close(session):
    session.close()


def commit(session):
    session.commit()


def shared_session(moment, of_session, first, second, before=None):
    def deed(engine):
        session = Session(engine)
        if before:
            before(session)
        while_another(session, session if of_session else engine, moment, first, second)
        log.info("stock is %s", Session(engine).get_one(Item, 1).stock)

    return deed


def change(session):
    session.get_one(Item, 1).stock -= 1


def sqlite_thread(engine):
    session = Session(engine)
    log.info("%s", session.get_one(Item, 1).name)
    thread("heartbeat", sell, session).join()


def static_pool(engine):
    """One connection for all threads, as people do for tests on SQLite in memory."""
    shared = make_engine(poolclass=StaticPool, connect_args={"check_same_thread": False})

    def work(number):
        for _ in range(60):
            with Session(shared) as session:
                session.get_one(Item, number).stock -= 1
                session.commit()

    workers = [thread(f"worker-{number}", work, number) for number in (1, 2, 3)]
    for worker in workers:
        worker.join()


def locked(engine):
    impatient = make_engine(connect_args={"timeout": 0.2})
    with Session(engine) as session:
        session.get_one(Item, 1).stock -= 1
        session.flush()
        log.info("importing the catalogue")
        with Session(impatient) as other:
            thread("worker-2", sell, other).join()
        session.commit()


def sequence(engine):
    """Two threads on one connection of PyMySQL."""
    connection = engine.connect()

    def work():
        for _ in range(300):
            connection.execute(text("select id, name from item")).all()

    workers = [thread(f"worker-{number}", work) for number in (1, 2)]
    for worker in workers:
        worker.join()


def attached(engine):
    with Session(engine) as loaded, Session(engine) as other:
        item = loaded.get_one(Item, 1)
        thread("worker-1", other.add, item).join()


def detached(engine):
    with Session(engine) as session:
        customer = session.get_one(Customer, 1)
    thread("mailer", lambda: log.info("%s orders", len(customer.orders))).join()


def refreshed(engine):
    with Session(engine) as session:
        customer = session.get_one(Customer, 1)
        session.commit()
    thread("mailer", lambda: log.info("to %s", customer.email)).join()


def broken_for_ever(engine):
    """A worker's session that fails once, and that nobody rolls back."""
    sessions = scoped_session(sessionmaker(engine))

    def job(number):
        sessions.add(Item(id=number, name=f"item {number}", stock=1))
        sessions.commit()

    for number in (7, 1, 8, 9):
        try:
            job(number)
            log.info("job %d is done", number)
        except Exception:
            log.exception("job %d failed", number)


def lost_connection(engine):
    """The server ends a session in mid-transaction; the next job finds the same Session as it was left."""
    session = Session(engine)
    for number in (1, 2, 3):
        try:
            item = session.get_one(Item, number)
            if number == 1:
                backend = session.connection().connection.dbapi_connection.info.backend_pid
                make_engine().connect().execute(text(f"select pg_terminate_backend({backend})"))
                threading.Event().wait(0.5)
            item.stock -= 1
            session.flush()
        except Exception:
            log.exception("job %d failed", number)


def deleted_twice(engine):
    with Session(engine) as mine, Session(engine) as theirs:
        order = mine.get_one(Order, 1)
        theirs.delete(theirs.get_one(Order, 1))
        theirs.commit()
        mine.delete(order)
        mine.commit()


def updated_after_delete(engine):
    with Session(engine) as mine, Session(engine) as theirs:
        order = mine.get_one(Order, 1)
        theirs.delete(theirs.get_one(Order, 1))
        theirs.commit()
        order.customer_id = 2
        mine.commit()


def exhausted(engine):
    """Every job takes a session, and none gives it back."""
    small = make_engine(pool_size=2, max_overflow=1, pool_timeout=1)
    held = []

    def job(number):
        session = Session(small)
        held.append(session)
        log.info("job %d read %s", number, session.get_one(Item, 1).name)

    for number in range(1, 6):
        thread(f"job-{number}", job, number).join()


def collected(engine):
    for _ in range(2):
        engine.connect().execute(text("select 1"))
    log.info("done")


def raw_sqlite(engine):
    connection = sqlite3.connect(engine.url.database)
    thread("heartbeat", lambda: connection.execute("update item set stock = 1")).join()


DEEDS = {
    "prepared": shared_session("commit", False, commit, count, change),
    "flushing": shared_session("before_flush", True, sell, flush),
    "provisioning": shared_session("checkout", False, sell, count),
    "closes": shared_session("checkout", False, sell, close),
    "closes in commit": shared_session("commit", False, commit, close, change),
    "sqlite thread": sqlite_thread,
    "raw sqlite": raw_sqlite,
    "static pool": static_pool,
    "locked": locked,
    "sequence": sequence,
    "attached": attached,
    "detached": detached,
    "refreshed": refreshed,
    "broken": broken_for_ever,
    "lost": lost_connection,
    "deleted": deleted_twice,
    "updated after": updated_after_delete,
    "exhausted": exhausted,
    "collected": collected,
}

if __name__ == "__main__":
    engine = make_engine(**settings.get("options", {}))
    fill(make_engine())
    # The first connection of all is made under a lock of the engine's.
    engine.connect().close()
    DEEDS[sys.argv[1]](engine)
