"""A process with one pooled connection forks several children: how many sessions does the server count, and when?"""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from lab.drivers import QUESTION
from lab.process import wait_until

# Sessions of the lab's clients, but for the one that asks.
COUNT = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and pid <> pg_backend_pid()",
    "mariadb": "select count(*) from information_schema.processlist where host like '%:%' and id <> connection_id()",
}


def main(engine: dict[str, Any], database: str, children: int, separate: bool) -> dict[str, int]:
    """Return how many sessions there are ``before`` the fork, when all have ``forked``, and when all have ``asked``.

    Args:
        engine: arguments of ``create_engine``.
        children: how many are forked; they ask one after the other, and stay until all have been counted.
        separate: the control: each child disposes of the inherited pool and opens a connection of its own.
    """
    shared = create_engine(**engine)
    with create_engine(**engine, poolclass=NullPool, isolation_level="AUTOCOMMIT").connect() as control:

        def sessions() -> int:
            return control.scalar(text(COUNT[database]))

        wait_until(lambda: not sessions(), "the end of earlier sessions")
        with shared.connect() as connection:
            connection.execute(text("select 1"))
        before = sessions()
        crowd = [_child(shared, database, separate) for _ in range(children)]
        forked = sessions()
        backends = {_ask(orders, hears) for orders, hears in crowd}
        asked = sessions()
        # The youngest first: each has copies of its elders' ends, and they go with it.
        for orders, _ in reversed(crowd):
            os.close(orders)
            os.wait()
    return {"before": before, "forked": forked, "asked": asked, "backends": len(backends)}


def _ask(orders: int, hears: int) -> int:
    os.write(orders, b".")
    return json.loads(os.read(hears, 100))


def _child(engine, database: str, separate: bool) -> tuple[int, int]:
    reads, orders = os.pipe()
    hears, says = os.pipe()
    if os.fork():
        os.close(reads), os.close(says)
        # It has started: that it was forked is counted, not that it is about to be.
        os.read(hears, 1)
        return orders, hears
    try:
        os.close(orders), os.close(hears)
        os.write(says, b".")
        os.read(reads, 1)
        if separate:
            engine.dispose(close=False)
        with engine.connect() as connection:
            row = connection.execute(text(QUESTION[database]), {"nonce": "child"}).one()
        os.write(says, json.dumps(int(row.backend)).encode())
        # Until the parent closes its end; a younger sibling's copy of it may live on.
        os.read(reads, 1)
    finally:
        os._exit(0)
