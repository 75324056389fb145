"""Two workers with pooled connections, and then something ends the connections: a fork's doing, or an innocent twin's.

With ``crossed`` the workers inherit their parent's connections; without, each opens its own, and nothing is shared. The
steps come one after the other, each reported before the next begins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text

from lab.drivers import QUESTION, spoken
from lab.process import wait_until

# The test that tells a crossed fork from its twins: one backend, seen from two process ids.
seen: dict[str, list[int]] = {}


def main(
    engines: Mapping[str, Mapping[str, Any]],
    database: str,
    crossed: bool,
    end: str,
    home: str = "",
    tighten: str = "",
    pre_ping: bool = False,
) -> dict[str, Any]:
    """Play the scene with all *engines* at once; return the rows of each by name: who asked, what came, which backend.

    Args:
        engines: arguments of ``create_engine`` by name.
        end: ``none``; ``dispose``, which the first worker then does; ``outside``: the caller ends the connections
            between the files ``ready`` and ``go`` in *home*.
        tighten: a statement that each connection is sent after its first answer.
    """
    pools = {name: _engine(name, pre_ping, **arguments) for name, arguments in engines.items()}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in pools}

    def note(who: str, answers: Mapping[str, Mapping[str, Any]]) -> None:
        for name, answer in answers.items():
            rows[name].append({"who": who, **answer})

    if crossed:
        note("parent", {name: _ask(name, engine, database, tighten) for name, engine in pools.items()})
    workers = {who: Worker(pools, database, tighten) for who in ("first worker", "second worker")}
    for who, worker in workers.items():
        note(who, worker.take("ask"))
    if end == "dispose":
        workers["first worker"].take("dispose")
    if end == "outside":
        backends = [answer["seen"][1] for answers in rows.values() for answer in answers]
        Path(home, "ready.new").write_text(json.dumps(backends))
        Path(home, "ready.new").rename(Path(home, "ready"))
        wait_until(Path(home, "go").exists, "the connections are ended")
    # Whoever said goodbye is not asked again: it would open a connection of its own.
    for who, worker in list(workers.items())[end == "dispose" :]:
        note(who, worker.take("ask"))
    for worker in workers.values():
        worker.leave()
    if crossed:
        note("parent", {name: _ask(name, engine, database, "") for name, engine in pools.items()})
    return {"rows": rows}


class Worker:
    """A forked child that does a step when it is told, and answers with a line."""

    def __init__(self, engines: Mapping[str, Engine], database: str, tighten: str) -> None:
        ear, mouth = os.pipe()
        back, forth = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(mouth)
            os.close(back)
            try:
                with open(ear) as orders, open(forth, "w") as answers:
                    _obey(orders, answers, engines, database, tighten)
            finally:
                os._exit(0)
        os.close(ear)
        os.close(forth)
        self._orders, self._answers = open(mouth, "w"), open(back)  # noqa: SIM115 - closed in leave()

    def take(self, step: str) -> dict[str, dict[str, Any]]:
        print(step, file=self._orders, flush=True)
        return json.loads(self._answers.readline())

    def leave(self) -> None:
        # Not by closing the pipe, of which the worker that was forked later has a copy.
        self.take("leave")
        self._orders.close()
        self._answers.close()
        os.waitpid(self._pid, 0)


def _obey(orders, answers, engines: Mapping[str, Engine], database: str, tighten: str) -> None:
    for order in map(str.strip, orders):
        if order == "dispose":
            for engine in engines.values():
                engine.dispose()
            done = {}
        elif order == "leave":
            print("{}", file=answers, flush=True)
            return
        else:
            done = {name: _ask(name, engine, database, tighten) for name, engine in engines.items()}
            tighten = ""
        print(json.dumps(done), file=answers, flush=True)


def _engine(name: str, pre_ping: bool, **arguments: Any) -> Engine:
    engine = create_engine(pool_pre_ping=pre_ping, **arguments)

    @event.listens_for(engine, "checkout")
    def checkout(dbapi_connection, record, proxy):
        # What the record remembers is inherited with it, and nothing has to be asked on a connection that may be dead.
        seen[name] = [os.getpid(), record.info.get("backend", 0)]

    return engine


def _ask(name: str, engine: Engine, database: str, tighten: str) -> dict[str, Any]:
    """Ask once; ``seen`` is the process id and the backend id that the checkout saw."""
    seen[name] = [os.getpid(), 0]
    kind, message = "right", ""
    try:
        with engine.connect() as connection:
            seen[name] = [os.getpid(), _answered(connection, database, tighten)]
    except Exception as problem:
        kind, message = "error", spoken(problem)
    return {"outcome": {"kind": kind, "message": message}, "seen": seen[name]}


def _answered(connection: Connection, database: str, tighten: str) -> int:
    nonce = f"n{os.getpid()}"
    row = connection.execute(text(QUESTION[database]), {"nonce": nonce}).one()
    if row.nonce != nonce:
        raise RuntimeError(f"asked for {nonce}, was given {row.nonce}")
    connection.info["backend"] = int(row.backend)
    if tighten:
        connection.execute(text(tighten))
        # What is set in a transaction that is rolled back is not set.
        connection.commit()
    return int(row.backend)
