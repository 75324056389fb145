"""Threads that hold a connection and ask for another: all of them wait, or all of them end.

The connections are handed out first, to one thread after another, all but one of what each needs. Then the threads meet
at a barrier, and ask for the rest.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from lab.drivers import spoken
from lab.pools import waiting
from lab.process import wait_until

ONE = text("select 1")


def main(engine: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], timeout: float = 3) -> list[dict[str, Any]]:
    """Play each of *cells*: ``threads``, ``connections`` of the pool, and how many ``each`` thread needs at a time.

    Args:
        engine: arguments of ``create_engine``.
        timeout: the pool's, in seconds.

    Returns:
        Of each cell how many threads are ``right``, ``messages`` of the others, and whether ``all_waited`` at once.
    """
    with ThreadPoolExecutor(len(cells)) as pool:
        return list(pool.map(lambda cell: _play(engine, timeout, **cell), cells))


def _play(arguments: Mapping[str, Any], timeout: float, threads: int, connections: int, each: int) -> dict[str, Any]:
    engine = create_engine(**arguments, pool_size=connections, max_overflow=0, pool_timeout=timeout)
    left, shares = connections, []
    for _ in range(threads):
        shares.append(min(each - 1, left))
        left -= shares[-1]
    barrier = threading.Barrier(threads)
    answers: list[str] = []
    workers = [threading.Thread(target=_work, args=(engine, share, each, barrier, answers)) for share in shares]
    for worker in workers:
        worker.start()
    # Only where one is left over can any thread end; where none is, all must be seen to wait before the first gives up.
    all_waited = not left and bool(wait_until(lambda: waiting(engine) == threads or answers, "all threads wait"))
    all_waited = all_waited and waiting(engine) + len(answers) >= threads
    for worker in workers:
        worker.join()
    engine.dispose()
    wrong = [answer for answer in answers if answer]
    return {"right": threads - len(wrong), "messages": sorted(set(wrong)), "all_waited": all_waited}


def _work(engine: Engine, share: int, each: int, barrier: threading.Barrier, answers: list[str]) -> None:
    with contextlib.ExitStack() as stack:

        def ask() -> None:
            stack.enter_context(Session(engine)).scalar(ONE)

        try:
            for _ in range(share):
                ask()
            barrier.wait(60)
            for _ in range(each - share):
                ask()
        except Exception as problem:
            answers.append(spoken(problem))
        else:
            answers.append("")
