"""A worker polls a database from a thread; between two polls something is changed, looked at, or cut off.

It sleeps until it is woken, so that every poll is before or after what is done, and none beside it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker

from lab.drivers import QUESTION, spoken
from lab.process import wait_until
from lab.scenes.staleness import THE_PAGE, Base, Page, engines, write, writing
from recipes.polling_worker import poll

PATIENCE = 30
# What the worker is given to see after the change, and after the loss.
POLLS = 4
NEW_ROW = 10
# When its connection is lost; the fact is how many of the next polls fail.
LOSSES = ASLEEP, IN_A_STEP = "cut off while it sleeps", "cut off in a step"
# In MariaDB what innodb_trx says is kept for a tenth of a second.
STALE = 0.11
OPEN = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and state like 'idle in transaction%'",
    "mariadb": "select count(*) from information_schema.innodb_trx",
}
IMPATIENT = {"postgresql": "set lock_timeout = '500ms'", "mariadb": "set lock_wait_timeout = 1"}
KILL = {"postgresql": "select pg_terminate_backend({0})", "mariadb": "kill {0}"}
ALIVE = {
    "postgresql": "select count(*) from pg_stat_activity where pid = {0}",
    "mariadb": "select count(*) from information_schema.processlist where id = {0}",
}
Step = Callable[[Session], object]


class Nap:
    """Stands where a worker has its stop: each sleep lasts until :meth:`wake`."""

    def __init__(self) -> None:
        self._asleep: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._go: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._over = False

    def is_set(self) -> bool:
        return self._over

    def wait(self, seconds: float) -> bool:
        self._asleep.put(None)
        self._over = self._go.get(timeout=PATIENCE)
        return self._over

    def run(self, work: Callable[[], object]) -> None:
        """What the worker's thread runs: tell of its end."""
        try:
            work()
            self._asleep.put(EOFError("the worker has ended"))
        except BaseException as problem:
            self._asleep.put(problem)

    def until_asleep(self) -> None:
        if problem := self._asleep.get(timeout=PATIENCE):
            raise problem

    def wake(self, over: bool = False) -> None:
        self._go.put(over)


def for_life(make_session: sessionmaker[Session], step: Step, *, stop: Nap) -> None:
    """One Session, and errors are logged: so it is done."""
    session = make_session()
    while not stop.is_set():
        with suppress(SQLAlchemyError):
            step(session)
        stop.wait(1)
    session.close()


def rolls_back_first(make_session: sessionmaker[Session], step: Step, *, stop: Nap) -> None:
    """One Session, which begins each poll with a rollback()."""

    def after_rollback(session: Session) -> None:
        session.rollback()
        step(session)

    for_life(make_session, after_rollback, stop=stop)


WAYS: dict[str, Callable[..., None]] = {
    "none": for_life,
    "rollback() before each poll": rolls_back_first,
    "polling_worker": poll,
    "polling_worker, pool_pre_ping": poll,
}


def main(engine: Mapping[str, Any], database: str, isolations: Sequence[str], trials: int) -> dict[str, Any]:
    """Let each way of polling meet a change and be looked at while it sleeps, and lose its connection, *trials* times.

    Args:
        engine: arguments of ``create_engine``.
        isolations: those at which it meets a change; the last one is that at which it loses its connection.

    Returns:
        ``changes`` and ``idle`` by isolation and way, ``lost`` by way: lists of trials' facts.
    """
    found: dict[str, Any] = {"changes": {}, "idle": {}, "lost": {}}
    for isolation in isolations:
        first, other = engines(engine, isolation)
        Base.metadata.create_all(other)
        for way in WAYS:
            seen = [_see(first, other, database, way) for _ in range(trials)]
            found["changes"].setdefault(isolation, {})[way] = [changes for changes, _ in seen]
            found["idle"].setdefault(isolation, {})[way] = [idle for _, idle in seen]
        first.dispose()
    for way in WAYS:
        pinging = create_engine(**engine, pool_pre_ping=way.endswith("pool_pre_ping"))
        found["lost"][way] = [_lose(pinging, other, database, way) for _ in range(trials)]
        pinging.dispose()
    Base.metadata.drop_all(other)
    other.dispose()
    return found


@contextmanager
def _working(engine: Engine, other: Engine, way: str, step: Step) -> Iterator[Nap]:
    """A worker that has polled once and is asleep."""
    with writing(other) as session:
        session.query(Page).delete()
        session.add(Page(id=1, body="old"))
    nap = Nap()
    thread = threading.Thread(target=nap.run, args=[lambda: WAYS[way](sessionmaker(engine), step, stop=nap)])
    thread.start()
    try:
        nap.until_asleep()
        yield nap
    finally:
        nap.wake(over=True)
        thread.join(PATIENCE)


def _see(engine: Engine, other: Engine, database: str, way: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What each poll after a change sees of it, and what the server says of the worker while it sleeps."""
    polls: list[dict[str, str]] = []
    kept: dict[str, Any] = {}

    def step(session: Session) -> None:
        kept["settings"] = session.scalars(THE_PAGE).one()
        rows = session.scalars(select(Page.id).where(Page.id >= NEW_ROW)).all()
        polls.append(
            {
                "an object it holds": kept["settings"].body,
                "a column": session.scalars(select(Page.body).where(Page.id == 1)).one(),
                "a new row": "new" if rows else "old",
            }
        )

    with _working(engine, other, way, step) as nap:
        time.sleep(STALE)
        with other.connect() as connection:
            idle: dict[str, Any] = {"open transactions": connection.scalar(text(OPEN[database]))}
        idle["ALTER TABLE"] = _alter(other, database)
        write(other, "new")
        with writing(other) as session:
            session.add(Page(id=NEW_ROW, body="new"))
        for _ in range(POLLS):
            nap.wake()
            nap.until_asleep()
    before, *after = polls
    if set(before.values()) != {"old"}:
        raise AssertionError(f"nothing had changed, and the worker saw {before}")
    return {name: _when([poll[name] for poll in after]) for name in before}, idle


def _when(values: Sequence[str]) -> str:
    return "new" if values[0] == "new" else "late" if "new" in values else "old"


def _alter(other: Engine, database: str) -> str:
    with other.connect() as connection:
        connection.execute(text(IMPATIENT[database]))
        try:
            connection.execute(text("alter table stale_page add column extra int"))
        except OperationalError:
            return "blocked"
        connection.execute(text("alter table stale_page drop column extra"))
        connection.commit()
        # Not in the pool: it is impatient.
        connection.invalidate()
        return "done"


class Asking:
    """A step that asks which backend answers; ``said`` has the error of each, or nothing where it got its answer."""

    def __init__(self, database: str) -> None:
        self.said: list[str] = []
        self.backend = 0
        self.between: Callable[[], object] = lambda: None
        self._question = text(QUESTION[database]).bindparams(nonce="")

    def __call__(self, session: Session) -> None:
        between, self.between = self.between, lambda: None
        try:
            self.backend = session.execute(self._question).one().backend
            between()
            session.execute(self._question).one()
            self.said.append("")
        except SQLAlchemyError as problem:
            self.said.append(spoken(problem))
            raise


def _lose(engine: Engine, other: Engine, database: str, way: str) -> dict[str, Any]:
    """How many polls fail after the worker's backend was ended, while it sleeps and in the middle of a step."""
    facts: dict[str, Any] = {"says": {}}
    for moment in LOSSES:
        step = Asking(database)
        with _working(engine, other, way, step) as nap:
            if moment == ASLEEP:
                _kill(other, database, step.backend)
            else:
                step.between = lambda step=step: _kill(other, database, step.backend)
            for _ in range(POLLS):
                nap.wake()
                nap.until_asleep()
        _, *after = step.said
        facts[moment] = sum(map(bool, after))
        facts["says"][moment] = list(dict.fromkeys(filter(None, after)))
    return facts


def _kill(other: Engine, database: str, backend: int) -> None:
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(KILL[database].format(backend)))
        wait_until(
            lambda: not connection.scalar(text(ALIVE[database].format(backend))), "the backend is gone", PATIENCE
        )
