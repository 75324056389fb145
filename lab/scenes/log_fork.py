"""A program that used its engine and then starts processes: ``log_fork.py DEED``. Each has its turn."""

from __future__ import annotations

import gc
import locale
import logging
import multiprocessing
import os
import signal
import sys
import time

import psycopg2
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from lab.scenes.log_models import Item, fill, make_engine, settings

logging.basicConfig(format="%(asctime)s %(processName)s %(levelname)s %(message)s", level=logging.INFO)
log = logging.getLogger("report")
engine = make_engine(**settings.get("options", {}))
fork = multiprocessing.get_context("fork")


def read(number):
    with Session(engine) as session:
        log.info("%s has %d", number, session.get_one(Item, number).stock)


def in_a_child(target, *arguments):
    process = fork.Process(target=target, args=arguments)
    process.start()
    process.join()


def dispose_and_read():
    engine.dispose()
    read(2)


def forget_and_read():
    engine.dispose(close=False)
    gc.collect()
    read(2)


def child_reads():
    in_a_child(read, 2)
    read(3)


def read_with_a_log_of_its_own(number):
    os.dup2(os.open(f"{settings['home']}/worker-{number}.log", os.O_WRONLY | os.O_CREAT), 2)
    read(number)


def others_read():
    """The others fail too, and have logs of their own."""
    for number in (1, 2):
        in_a_child(read_with_a_log_of_its_own, number)
    read(3)


def driver_alone():
    """A worker that has no SQLAlchemy, whose child closes the connection that is not its own."""
    connection = psycopg2.connect(
        host=engine.url.host, port=engine.url.port, user="lab", dbname="postgres", sslmode="disable"
    )
    in_a_child(connection.close)
    for number in (1, 2, 3):
        try:
            with connection.cursor() as cursor:
                cursor.execute("select name from item where id = %s", [number])
                log.info("%s", cursor.fetchone())
        except psycopg2.Error:
            log.exception("job %d failed", number)


def child_disposes():
    in_a_child(dispose_and_read)
    read(3)


def child_forgets():
    in_a_child(forget_and_read)
    read(3)


def sells(number):
    with Session(engine) as session:
        for _ in range(40):
            item = session.scalars(select(Item).where(Item.id == number)).one()
            item.stock -= 1
            session.commit()
    return number


def together():
    processes = [fork.Process(target=sells, args=[number]) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def runs(statement):
    with engine.begin() as connection:
        connection.execute(text(statement))
    log.info("%s is done", statement.split()[0])


def overlapping(statement):
    """A child reads while another one waits for the answer to its *statement*."""

    def deed():
        slow = fork.Process(target=runs, args=(settings["slow"][statement],), daemon=True)
        slow.start()
        time.sleep(0.7)
        # The system has other things to do for now than this process, and the answer is the other one's to read.
        os.kill(slow.pid, signal.SIGSTOP)
        quick = fork.Process(target=read, args=(2,), daemon=True)
        quick.start()
        quick.join(5)
        os.kill(slow.pid, signal.SIGCONT)
        slow.join(5)

    return deed


DEEDS = {
    "slow select": overlapping("select"),
    "slow update": overlapping("update"),
    "child reads": child_reads,
    "driver alone": driver_alone,
    "others read": others_read,
    "child disposes": child_disposes,
    "child forgets": child_forgets,
    "together": together,
}

if __name__ == "__main__":
    # The user's language, as programs with messages of their own ask for it.
    locale.setlocale(locale.LC_ALL, "")
    fill(make_engine())
    with engine.connect() as connection:
        log.info("%s items", connection.execute(text("select count(*) from item")).scalar_one())
    DEEDS[sys.argv[1]]()
