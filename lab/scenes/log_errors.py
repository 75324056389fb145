"""Ordinary mistakes and mishaps, in one process that shares nothing: ``log_errors.py MISTAKE``."""

from __future__ import annotations

import locale
import logging
import sys
import threading
import time

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from lab.scenes.log_models import Customer, Item, fill, make_engine, settings

logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
log = logging.getLogger("shop")


def unique(engine):
    with Session(engine) as session:
        session.add(Customer(id=9, email="c1@example.org"))
        session.commit()


def run(statement):
    def mistake(engine):
        with engine.begin() as connection:
            connection.execute(text(statement))

    return mistake


def not_null(engine):
    with Session(engine) as session:
        session.add(Item(id=9, name="nameless"))
        session.commit()


def healthy(engine):
    with Session(engine) as session:
        item = session.scalars(select(Item).where(Item.id == 1)).one()
        item.stock -= 1
        session.commit()
        log.info("stock is %d", item.stock)


def healthy_to_the_end(engine):
    healthy(engine)
    engine.dispose()


def ended_by_administrator(engine):
    with Session(engine) as session:
        backend = session.scalar(text("select pg_backend_pid()"))

        def end():
            time.sleep(0.5)
            with make_engine().connect() as administrator:
                administrator.execute(text("select pg_terminate_backend(:backend)"), {"backend": backend})

        threading.Thread(target=end).start()
        session.execute(text("select pg_sleep(5)"))


def idle_dropped(engine):
    """Between two jobs the server ends the session that lies idle in the pool."""
    with Session(engine) as session:
        mine = session.scalar(text(settings["whoami"]))
    administrator = make_engine()
    with administrator.connect() as connection:
        connection.execute(text(settings["kill"].format(mine)))
    time.sleep(0.5)
    log.info("next job")
    with Session(engine) as session:
        session.scalar(select(Item.name))


def timed_out(engine):
    with Session(engine) as session:
        session.execute(text("set session wait_timeout = 1"))
        session.scalar(select(Item.name))
    time.sleep(2.5)
    log.info("next job")
    with Session(engine) as session:
        session.scalar(select(Item.name))


def idle_in_transaction(engine):
    with Session(engine) as session:
        session.execute(text(settings["limit"]))
        session.commit()
        log.info("charging customer %s", session.get_one(Customer, 1).email)
        # The payment provider takes its time.
        time.sleep(2.5)
        log.info("payment accepted")
        session.get_one(Item, 1).stock -= 1
        session.commit()


def statement_timeout(engine):
    with engine.begin() as connection:
        connection.execute(text("set statement_timeout = '200ms'"))
        connection.execute(text("select pg_sleep(5)"))


def key_error(engine):
    log.info("currency %s", settings["currency"])


def too_many(engine):
    """Every process of the day has its pool, and nobody multiplies."""
    engines = [make_engine() for _ in range(settings["engines"])]
    held = []
    for number, one in enumerate(engines):
        held.append(one.connect())
        held[-1].execute(text("select 1"))
        log.info("worker %d is connected", number)


MISTAKES = {
    "unique": unique,
    "missing-table": run("select * from invoice"),
    "missing-column": run("select colour from item"),
    "syntax": run("selct * from item"),
    "not-null": not_null,
    "division": run("select 1 / 0"),
    "healthy": healthy_to_the_end,
    "unclosed": healthy,
    "administrator": ended_by_administrator,
    "idle-dropped": idle_dropped,
    "timed-out": timed_out,
    "idle-in-transaction": idle_in_transaction,
    "statement-timeout": statement_timeout,
    "key-error": key_error,
    "too-many": too_many,
    "connect": run("select 1"),
}

if __name__ == "__main__":
    # The user's language, as programs with messages of their own ask for it.
    locale.setlocale(locale.LC_ALL, "")
    engine = make_engine(**settings.get("options", {}))
    if settings.get("fills", True):
        fill(make_engine())
    log.info("start")
    if settings.get("catches"):
        try:
            MISTAKES[sys.argv[1]](engine)
        except Exception:
            log.exception("the job failed")
    else:
        MISTAKES[sys.argv[1]](engine)
