"""A greenlet is killed while the database's answer is on its way: what does the pool get back, and who gets the answer?

The answer is kept back by a relay. Once it has arrived there the server has done its part, and the greenlet waits.
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

import contextlib
import gc
import logging
from collections.abc import Mapping
from typing import Any

import gevent
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import create_connection
from sqlalchemy import create_engine, make_url, update
from sqlalchemy.orm import sessionmaker

from lab.scenes.task_common import Account, Truth, answer, error, question, words

PING, QUERY, BETWEEN = "in the pre-ping", "in a query", "between two queries"
COMMIT, ROLLBACK = "in commit()", "in the rollback of close()"
DRIVER, INVALIDATED = "in a driver's cursor, close()", "in a driver's cursor, invalidate()"
MOMENTS = (PING, QUERY, BETWEEN, COMMIT, ROLLBACK, DRIVER, INVALIDATED)
PINGS, NO_PING = "pool_pre_ping", "no pool_pre_ping"
HOWS = KILL, TIMEOUT = "kill()", "Timeout"
NEXT = 4


class Relay:
    """Passes bytes between clients on ``port`` and the server on port *target* of loopback; to be used as a block."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._flows, self.arrived = Event(), Event()
        self._flows.set()

    def __enter__(self) -> "Relay":
        self._server = StreamServer(("127.0.0.1", 0), self._serve)
        self._server.start()
        self.port: int = self._server.server_port
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def hold(self) -> None:
        """From now on keep back what the server says; ``arrived`` is set when it has said something."""
        self._flows.clear()

    def release(self) -> None:
        self._flows.set()

    def _serve(self, client: Any, _: object) -> None:
        with create_connection(("127.0.0.1", self._target)) as server:
            back = gevent.spawn(self._pump, server, client, answers=True)
            self._pump(client, server)
            back.kill()

    def _pump(self, source: Any, target: Any, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if answers and not self._flows.is_set():
                    self.arrived.set()
                    self._flows.wait()
                target.sendall(data)
            target.shutdown(1)


def main(engine: Mapping[str, Any], database: str, trials: int) -> dict[str, Any]:
    """Play each moment *trials* times, killed by ``kill()`` and by a ``gevent.Timeout``, with and without pre-ping.

    Args:
        engine: arguments of ``create_engine``.

    Returns:
        By "pool, how" a list of what :func:`_play` tells, by moment.
    """
    gc.disable()
    logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())

    def once(pool: str, how: str) -> dict[str, Any]:
        moments = [moment for moment in MOMENTS if pool == PINGS or moment != PING]
        return {moment: _play(engine, database, pool == PINGS, how, moment) for moment in moments}

    return {f"{pool}, {how}": [once(pool, how) for _ in range(trials)] for pool in (PINGS, NO_PING) for how in HOWS}


def _play(arguments: Mapping[str, Any], database: str, pre_ping: bool, how: str, moment: str) -> dict[str, Any]:
    """How the greenlet ended, the ``next`` answers, ``out`` of the pool then, what is ``stored``, and ``reused``."""
    truth = Truth(arguments, database)
    truth.rewind()
    url = make_url(arguments["url"])
    with Relay(url.port) as relay:
        through = {**arguments, "url": url.set(port=relay.port)}
        engine = create_engine(**through, pool_pre_ping=pre_ping, pool_size=1, max_overflow=0, pool_timeout=0.5)
        make_session = sessionmaker(engine)
        before = _ask(make_session, database)
        told = _kill(engine, make_session, relay, how, moment, database)
        following = [_ask(make_session, database) for _ in range(NEXT)]
        out, stored = engine.pool.checkedout(), truth.balance()
        with contextlib.suppress(Exception):
            engine.dispose()
    reused = following[0].get("backend") == before["backend"]
    return {"told": told, "next": following, "out": out, "stored": stored, "reused": reused}


class Refused(Exception):
    """What ends a greenlet that is to be rolled back."""


def _kill(engine: Any, make_session: Any, relay: Relay, how: str, moment: str, database: str) -> str:
    statement, asked = question(database)

    def reached(which: str) -> None:
        if which == moment:
            relay.hold()

    def request() -> None:
        if moment in (DRIVER, INVALIDATED):
            _past_sqlalchemy(engine, relay, asked["nonce"], moment == INVALIDATED)
            return
        reached(PING)
        with make_session() as session:
            session.execute(update(Account).where(Account.id == 1).values(balance=150))
            if moment == BETWEEN:
                relay.arrived.set()
                Event().wait()
            reached(QUERY)
            session.execute(statement, asked)
            reached(ROLLBACK)
            if moment == ROLLBACK:
                raise Refused
            reached(COMMIT)
            session.commit()

    def timed() -> None:
        with gevent.Timeout(None) as timeout:
            expiry.append(timeout)
            request()

    expiry: list[Any] = []
    job = gevent.spawn(request if how == KILL else timed)
    gevent.wait([relay.arrived, job], count=1, timeout=30)
    if job.dead:
        relay.release()
        return f"was done before: {words(job.exception)}" if job.exception else "was done before"
    if how == KILL:
        job.kill(block=False)
    else:
        # What a Timeout does when its time has come.
        gevent.get_hub().loop.run_callback(job.throw, expiry[0])
    # It is delivered in the hub's next turn; the answer comes after that.
    for _ in range(3):
        gevent.sleep(0)
    relay.release()
    job.join(30)
    if not job.dead:
        return "hung"
    if job.exception:
        return words(job.exception)
    return "killed" if isinstance(job.value, gevent.GreenletExit) else "went on"


def _past_sqlalchemy(engine: Any, relay: Relay, nonce: str, invalidated: bool) -> None:
    """As code does that has a cursor of the driver's: nobody else is there to see what ends it."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        relay.hold()
        cursor.execute(f"select '{nonce}' as nonce, 0 as backend")
        cursor.fetchall()
    except BaseException:
        if invalidated:
            connection.invalidate()
        raise
    finally:
        connection.close()


def _ask(make_session: Any, database: str) -> dict[str, Any]:
    statement, asked = question(database)
    try:
        with gevent.Timeout(5, RuntimeError("no answer within five seconds")), make_session() as session:
            return answer(session.execute(statement, asked).one(), asked)
    except Exception as problem:
        return error(problem)
