"""Two transactions that meet: each Session in a thread of its own, which stops where it is told to.

Nothing is raced. A thread goes on when the other has come to its next stop, or when the server says that it waits for
a lock. SQLite cannot be asked that, and need not be: all that comes after the reads takes the one lock in turn, and
whoever takes it first, the outcome is the same.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lab.drivers import spoken
from lab.process import wait_until

SNAPSHOT = ", innodb_snapshot_isolation"
BEGINS = ("BEGIN", "BEGIN IMMEDIATE")
BACKEND = {"postgresql": "SELECT pg_backend_pid()", **dict.fromkeys(("mysql", "mariadb"), "SELECT connection_id()")}
BLOCKED = "SELECT count(*) FROM pg_locks WHERE pid = :backend AND NOT granted"
Pause = Callable[[], None]
Step = Callable[[Pause], Any]


class Base(DeclarativeBase):
    """What the scenes about lost updates map."""


class Account(Base):
    __tablename__ = "lost_account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


class Versioned(Base):
    __tablename__ = "lost_versioned"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


def engine_at(arguments: Mapping[str, Any], isolation: str, **how: Any) -> Engine:
    """An engine whose transactions run at *isolation*: a level, one of ``BEGINS`` for SQLite, or the driver's own."""
    level = isolation.removesuffix(SNAPSHOT)
    if level.isupper() and level not in BEGINS:
        how["isolation_level"] = level
    # SQLite waits as long as it is told to.
    connect = {"timeout": 60} if arguments["url"].startswith("sqlite") else {}
    settings = {**arguments.get("connect_args", {}), **connect}
    engine = create_engine(**{**arguments, "connect_args": settings}, **how)
    kind = engine.dialect.name
    if kind in BACKEND:

        @event.listens_for(engine, "connect")
        def connected(dbapi: Any, record: Any) -> None:
            _settings(dbapi, kind, isolation.endswith(SNAPSHOT))
            ((record.info["backend"],),) = _ask(dbapi, BACKEND[kind])
            dbapi.commit()

        @event.listens_for(engine, "checkout")
        def checkout(dbapi: Any, record: Any, proxy: Any) -> None:
            threading.current_thread().backend = record.info["backend"]

    elif level in BEGINS:
        # As the documentation of SQLAlchemy has it.
        event.listen(engine, "connect", lambda dbapi, record: setattr(dbapi, "isolation_level", None))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(level))
    return engine


def _settings(dbapi: Any, kind: str, snapshot: bool) -> None:
    if kind == "postgresql":
        # It looks for deadlocks only after that time.
        _ask(dbapi, "SET deadlock_timeout = '50ms'")
    elif _ask(dbapi, "SHOW VARIABLES LIKE 'innodb_snapshot_isolation'"):
        # Releases of MariaDB differ in their default, and older ones do not have it.
        _ask(dbapi, f"SET innodb_snapshot_isolation = {'ON' if snapshot else 'OFF'}")


def _ask(dbapi: Any, statement: str) -> list[Any]:
    cursor = dbapi.cursor()
    cursor.execute(statement)
    rows = cursor.fetchall() if cursor.description else []
    cursor.close()
    return list(rows)


class Actor(threading.Thread):
    """A thread that does *step*, which stops at each ``pause()``; afterwards there is a ``result`` or a ``problem``."""

    def __init__(self, step: Step) -> None:
        super().__init__(daemon=True)
        self.backend = 0
        self.result: Any = None
        self.problem = ""
        self.told = 0
        self.stops = 0
        self._step = step
        self._words: queue.SimpleQueue[None] = queue.SimpleQueue()

    def run(self) -> None:
        try:
            self.result = self._step(self.pause)
        except Exception as problem:
            self.problem = spoken(problem)

    def pause(self) -> None:
        self.stops += 1
        self._words.get(timeout=60)

    def go_on(self) -> None:
        self.told += 1
        self._words.put(None)

    @property
    def stands(self) -> bool:
        return self.stops > self.told or not self.is_alive()


def meet(steps: Sequence[Step], pauses: int, waits: Callable[[Actor, int], bool]) -> list[Actor]:
    """Let *steps* run to their first pause, one after the other, then to their second, and so on, to their end."""
    actors = [Actor(step) for step in steps]
    for n in range(pauses + 1):
        for actor in actors:
            actor.go_on() if n else actor.start()
            wait_until(lambda actor=actor, n=n: actor.stands or waits(actor, n), "the other transaction", 60)
    for actor in actors:
        actor.join(60)
        if actor.is_alive():
            raise TimeoutError("a transaction did not end")
    return actors


def each(pauses: Sequence[Pause]) -> None:
    """Pause at each of them; a transaction that is done again has none left."""
    for pause in pauses:
        pause()


def observer(arguments: Mapping[str, Any], isolation: str) -> Callable[[Actor, int], bool]:
    """A function that tells whether an actor waits for a lock, as the server sees it."""
    engine = create_engine(**arguments, isolation_level="AUTOCOMMIT")
    kind = engine.dialect.name
    if kind == "sqlite":
        # The first stretch is the read, which waits only where the lock is taken before.
        return lambda actor, n: n > 0 or isolation == "BEGIN IMMEDIATE"

    def waits(actor: Actor, n: int) -> bool:
        with engine.connect() as connection:
            if kind == "postgresql":
                return bool(connection.scalar(text(BLOCKED), {"backend": actor.backend}))
            # Who asks innodb_trx more often than ten times a second is told the same again and again.
            ((*_, status),) = connection.execute(text("SHOW ENGINE INNODB STATUS"))
        mine = f" thread id {actor.backend},"
        return any(mine in one and "\nLOCK WAIT " in one for one in status.split("---TRANSACTION "))

    return waits
