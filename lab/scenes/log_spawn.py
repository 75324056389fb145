"""A program that hands to a process of its own what cannot be sent there: ``log_spawn.py THING``."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from sqlalchemy.orm import Session, scoped_session, sessionmaker

from lab.scenes.log_models import make_engine

logging.basicConfig(format="%(asctime)s %(processName)s %(levelname)s %(message)s", level=logging.INFO)
log = logging.getLogger("report")


def work(thing):
    log.info("working with %r", thing)


def process(thing):
    spawned = multiprocessing.get_context("spawn").Process(target=work, args=(thing,))
    spawned.start()
    spawned.join()


def executor(thing):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        log.info("%s", pool.submit(work, thing).result())


THINGS = {
    "engine": lambda engine: process(engine),
    "engine in an executor": lambda engine: executor(engine),
    "session": lambda engine: process(Session(engine)),
    "scoped session": lambda engine: process(scoped_session(sessionmaker(engine))),
    "connection": lambda engine: process(engine.connect()),
}

if __name__ == "__main__":
    log.info("start")
    THINGS[sys.argv[1]](make_engine())
