"""A program that forks by itself: it takes laps of jobs from a pipe and has its children do them.

Run as ``python -m lab.apps.forked_program PROGRAM [METHOD]``. With a start method other than fork a child imports this
module, and with it the application, anew.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

from apscheduler.executors import pool
from apscheduler.schedulers.background import BackgroundScheduler

from lab.apps import forked

CHILDREN = 2
Jobs = Iterable[tuple[str, str]]


def start_child() -> None:
    forked.hook("initializer")


def hooked(lap: str, nonce: str) -> None:
    # There is no hook: the child's first line is the place.
    forked.hook("none")
    forked.job(lap, nonce)


@contextmanager
def os_fork() -> Iterator[Callable[[Jobs], None]]:
    def give(jobs: Jobs) -> None:
        children = []
        for job in jobs:
            child = os.fork()
            if child == 0:
                try:
                    hooked(*job)
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)

    yield give


@contextmanager
def process(method: str, preload: str = "") -> Iterator[Callable[[Jobs], None]]:
    context = multiprocessing.get_context(method)
    if preload:
        context.set_forkserver_preload([preload])
    forked.note("hand over", said=_hand_over(context))

    def give(jobs: Jobs) -> None:
        children = [context.Process(target=hooked, args=job) for job in jobs]
        for child in children:
            child.start()
        for child in children:
            child.join()

    yield give


def _hand_over(context) -> str:
    """Pass a child the engine itself; what Python says to it."""
    try:
        child = context.Process(target=id, args=(forked.engine,))
        child.start()
        child.join()
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    return "taken"


@contextmanager
def process_pool(method: str) -> Iterator[Callable[[Jobs], None]]:
    # Its children leave after one job, and others take their places.
    with multiprocessing.get_context(method).Pool(CHILDREN, start_child, maxtasksperchild=1) as processes:

        def give(jobs: Jobs) -> None:
            for result in [processes.apply_async(forked.job, job) for job in jobs]:
                result.get()

        yield give
        processes.close()
        processes.join()


@contextmanager
def executor(method: str) -> Iterator[Callable[[Jobs], None]]:
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(CHILDREN, context, initializer=start_child) as processes:

        def give(jobs: Jobs) -> None:
            for result in [processes.submit(forked.job, *job) for job in jobs]:
                result.result()

        yield give


@contextmanager
def scheduler(method: str) -> Iterator[Callable[[Jobs], None]]:
    if method == "threads":
        executor = pool.ThreadPoolExecutor(1)
    else:
        context = {"mp_context": multiprocessing.get_context(method)} if method else {}
        executor = pool.ProcessPoolExecutor(CHILDREN, {"initializer": start_child, **context})
    times = BackgroundScheduler(executors={"default": executor}, timezone="UTC")
    times.start()

    def give(jobs: Jobs) -> None:
        for job in jobs:
            times.add_job(forked.job, args=job, misfire_grace_time=None)

    yield give
    times.shutdown()


PROGRAMS = {"os.fork": os_fork, "Process": process, "Pool": process_pool, "executor": executor, "scheduler": scheduler}


def main() -> None:
    # The lab holds the other end open until it has no more orders.
    with PROGRAMS[sys.argv[1]](*sys.argv[2:]) as give, (forked.home / "orders").open() as orders:
        # The documented way to ask for the default that does not settle it.
        forked.note("ready", method=multiprocessing.get_all_start_methods()[0])
        for order in orders:
            give(json.loads(order))


if __name__ == "__main__":
    main()
