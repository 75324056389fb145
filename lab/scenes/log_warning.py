"""A pool of processes beside a thread, with the standard library alone: for a Python that has nothing installed."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from concurrent.futures import ProcessPoolExecutor

logging.basicConfig(format="%(asctime)s %(processName)s %(levelname)s %(message)s", level=logging.INFO)
log = logging.getLogger("report")


def total(number):
    return sum(range(number))


if __name__ == "__main__":
    end = threading.Event()
    threading.Thread(name="heartbeat", target=end.wait).start()
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        log.info("totals are %s", list(pool.map(total, [10, 100, 1000])))
    end.set()
