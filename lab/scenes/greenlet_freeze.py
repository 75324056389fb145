"""Two greenlets and a row: the first has it locked, the second wants it. Does the first ever get to its commit?

A thread of the operating system's looks on. When the server says that somebody waits for a lock, and the main thread
has slept in the same system call for a while, it asks the server to cancel the wait: nobody else would end it.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
from gevent import select as gevent_select
from sqlalchemy import create_engine, text, update
from sqlalchemy.orm import Session

from lab import procfs
from lab.scenes.task_common import Account, Truth, words

LOOKS = 20
FOREVER = ("0xffffffff", "0xffffffffffffffff")
WAITING = {
    "postgresql": "select pid from pg_stat_activity where wait_event_type = 'Lock'",
    "mariadb": "select trx_mysql_thread_id from information_schema.innodb_trx where trx_state = 'LOCK WAIT'",
}
CANCEL = {"postgresql": "select pg_cancel_backend({})", "mariadb": "kill query {}"}
CALLBACK = "set_wait_callback"


def main(engine: Mapping[str, Any], database: str, remedy: str) -> dict[str, Any]:
    """Play it once.

    Args:
        engine: arguments of ``create_engine``.
        remedy: "set_wait_callback" lets psycopg2 wait in gevent's loop, as psycogreen does; else empty.

    Returns:
        ``first`` and ``second``, what became of the greenlets; ``frozen``, whether the process stood still;
        ``waits in``, the system call in which it did; ``ticks``, how often a third greenlet ran meanwhile;
        ``stored``, the balance in the end: 100, and 50 of each that committed.
    """
    if remedy == CALLBACK:
        _wait_in_gevent()
    truth = Truth(engine, database)
    truth.rewind()
    made = create_engine(**engine)
    ticks = [0]
    # A real thread, which gevent gives: the patched threading module has greenlets.
    watch = gevent.get_hub().threadpool.spawn(_watch, truth, database, ticks, os.getpid())
    ticker = gevent.spawn(_tick, ticks)
    first = gevent.spawn(_first, made)
    first.join(30)
    second = first.value["second"]
    second.join(30)
    seen = watch.get(timeout=30)
    ticker.kill()
    return {"first": first.value["told"], "second": second.value, **seen, "stored": truth.balance()}


def _pay_in(session: Session) -> None:
    session.execute(update(Account).where(Account.id == 1).values(balance=Account.balance + 50))


def _first(engine: Any) -> dict[str, Any]:
    with Session(engine) as session:
        _pay_in(session)
        second = gevent.spawn(_second, engine)
        # As any call that cooperates: a request to another service, a log, a sleep.
        gevent.sleep(0)
        session.commit()
    return {"told": "OK", "second": second}


def _second(engine: Any) -> str:
    try:
        with Session(engine) as session:
            _pay_in(session)
            session.commit()
    except Exception as problem:
        return words(problem).split("\n")[0]
    return "OK"


def _tick(ticks: list[int]) -> None:
    while True:
        ticks[0] += 1
        gevent.sleep(0.01)


def _watch(truth: Truth, database: str, ticks: list[int], pid: int) -> dict[str, Any]:
    """Look until the process is found frozen, or a greenlet's turn shows that it is not."""
    sleep = monkey.get_original("time", "sleep")
    looks, last, deadline = 0, ticks[0], time.monotonic() + 25
    while looks < LOOKS and time.monotonic() < deadline:
        sleep(0.02)
        call = procfs.waits_in(pid)
        still = ticks[0] == last and call and _for_ever(pid)
        looks, last = looks + 1 if still else 0, ticks[0]
        if ticks[0] > 2 * LOOKS:
            break
    frozen = looks == LOOKS
    before = ticks[0]
    if frozen:
        sleep(LOOKS * 0.02)
        ran = ticks[0] - before
        with truth.engine.connect() as connection:
            (backend,) = connection.execute(text(WAITING[database])).scalars()
            connection.execute(text(CANCEL[database].format(backend)))
    return {"frozen": frozen, "waits in": call if frozen else "", "ticks": ran if frozen else ticks[0]}


def _for_ever(pid: int) -> bool:
    """Whether its main thread sleeps in a call that has no time limit."""
    words = Path(f"/proc/{pid}/syscall").read_text().split()
    return words[0] != "running" and (words[3] in FOREVER or words[4] in FOREVER or procfs.waits_in(pid) == "recvfrom")


def _wait_in_gevent() -> None:
    import psycopg2.extensions as of

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != of.POLL_OK:
            reading = [connection] if state == of.POLL_READ else []
            writing = [connection] if state == of.POLL_WRITE else []
            gevent_select.select(reading, writing, [])

    of.set_wait_callback(wait)
