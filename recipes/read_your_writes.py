# SPDX-License-Identifier: 0BSD
# Recipe: read_your_writes, version 1 (Forks, Threads and Sessions, /docs/recipes/#read-your-writes)
"""A Session that reads from a replica until it writes, and then from the primary, for some seconds beyond the commit.

Problem: a Session that sends each SELECT to a replica shows the user who has saved a page the page as it was before,
as long as the replica is behind. ``refresh()`` and a new Session do not help: what they send is a SELECT, too.

Use it when: there is a replica that lags for less than some known number of seconds, and users are to see at least
their own changes.
Not when: everybody has to see everybody's changes at once: read from the primary. Nor for a SELECT that calls a
function that writes: it is taken for a reader. A read-only replica refuses it; call :meth:`use_primary` before it.

What is known to read is ``select()`` without ``with_for_update()``. All else counts as a write, ``text()`` included: a
flush, Core's insert, update and delete, ``connection()``. A Session that has read from the replica keeps those objects
as they are: before you change what you have read, call :meth:`use_primary`, or read it ``with_for_update()`` and
``populate_existing``. The replica's transaction stays open, with its own snapshot, until the Session's ends.

>>> import tempfile
>>> from sqlalchemy import NullPool, column, create_engine, insert, select, table, text
>>> from sqlalchemy.orm import sessionmaker
>>> place = tempfile.TemporaryDirectory()
>>> def database(name):
...     engine = create_engine(f"sqlite:///{place.name}/{name}", poolclass=NullPool)
...     with engine.begin() as connection:
...         _ = connection.execute(text("create table page (title text)"))
...     return engine
>>> primary, replica, page = database("primary"), database("replica"), table("page", column("title"))
>>> make_session = sessionmaker(class_=ReadYourWrites, primary=primary, replicas=[replica], seconds=5)
>>> session = make_session()
>>> session.scalars(select(page.c.title)).all()  # from the replica
[]
>>> _ = session.execute(insert(page).values(title="new"))
>>> session.commit()
>>> session.scalars(select(page.c.title)).all()  # from the primary, where alone it is by now
['new']
>>> session.close()

The next request of the same user may come to another process: let its :attr:`token` travel in a cookie.

>>> with make_session(token=session.token) as next_request, make_session() as another_user:
...     [some.scalars(select(page.c.title)).all() for some in (next_request, another_user)]
[['new'], []]
>>> place.cleanup()

Where PostgreSQL's replica can be waited for, :func:`position` and :func:`wait_for` do without a guess of its lag.

Tested with SQLAlchemy 2.0 and 2.1 on PostgreSQL 15 and a streaming standby, with psycopg2, psycopg and asyncpg. Of this
kind of ``get_bind`` SQLAlchemy says that two Sessions, one for readers and one for writers, are simpler:
https://docs.sqlalchemy.org/en/20/orm/persistence_techniques.html#custom-vertical-partitioning
"""

import random
import time
from collections.abc import Sequence

from sqlalchemy import Engine, event, text
from sqlalchemy.orm import Session


class ReadYourWrites(Session):
    """A Session over a primary and its replicas, for ``sessionmaker(class_=ReadYourWrites, primary=..., ...)``.

    With asyncio: ``async_sessionmaker(sync_session_class=ReadYourWrites, ...)`` and async engines; then
    :attr:`token` and :meth:`use_primary` are those of ``session.sync_session``.

    Args:
        primary: the engine that takes writes.
        replicas: engines to read from; a Session keeps to one of them, so that it does not go back in time.
        seconds: how long after a commit reads go to the primary. More than the lag, less than the load allows.
        token: the :attr:`token` of this user's last Session, as it came; anything else counts as none.
    """

    def __init__(self, *args, primary: Engine, replicas: Sequence[Engine], seconds=5.0, token: str = "", **options):
        super().__init__(*args, **options)
        replica = random.choice(replicas)
        self._primary, self._replica = (getattr(engine, "sync_engine", engine) for engine in (primary, replica))
        self._seconds = seconds
        self._until = _time_in(token, at_most=time.time() + seconds)
        self._wrote = self._stays = False

    @property
    def token(self) -> str:
        """What the user's next Session is to be told, good for so many seconds; empty when there is nothing to tell."""
        return f"{self._until:.3f}" if time.time() < self._until else ""

    def use_primary(self) -> None:
        """Read from the primary until the end of this transaction, whether or not it writes."""
        self._stays = True

    def get_bind(self, mapper=None, *, clause=None, bind=None, **options):
        """SQLAlchemy's hook: where *clause* goes. A *bind* that the caller names is what it gets."""
        self._wrote |= self._flushing or not _only_reads(clause)
        # Once there, it stays: a transaction that changed back would see its own past.
        self._stays |= self._wrote or time.time() < self._until
        return bind or (self._primary if self._stays else self._replica)


@event.listens_for(ReadYourWrites, "do_orm_execute")
def _notice(state) -> None:
    # Earlier than get_bind: update() and delete() may have to ask first which rows they are going to meet.
    state.session._wrote |= not _only_reads(state.statement)


@event.listens_for(ReadYourWrites, "after_commit")
def _remember(session: ReadYourWrites) -> None:
    if session._wrote:
        session._until = time.time() + session._seconds


@event.listens_for(ReadYourWrites, "after_transaction_end")
def _begin_anew(session: ReadYourWrites, transaction) -> None:
    if transaction.parent is None:
        session._wrote = session._stays = False


def position(primary: Engine) -> str:
    """How far PostgreSQL has written its log: call it after the commit, and let the answer travel to the reader."""
    with primary.connect() as connection:
        return connection.scalar(text("select cast(pg_current_wal_lsn() as text)"))


def wait_for(replica: Engine, position: str, seconds: float) -> None:
    """Wait until a standby of PostgreSQL shows what was committed before *position*; then begin the reader's Session.

    Raises:
        TimeoutError: it did not within *seconds*. Read from the primary, or let the user wait.
    """
    deadline = time.monotonic() + seconds
    with replica.connect() as connection:
        question = text("select pg_last_wal_replay_lsn() >= cast(:position as pg_lsn)")
        while not connection.scalar(question, {"position": position}):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the replica has not replayed {position} within {seconds:g} s")
            time.sleep(0.01)


def _only_reads(clause) -> bool:
    return getattr(clause, "is_select", False) and getattr(clause, "_for_update_arg", None) is None


def _time_in(token: str, at_most: float) -> float:
    # It comes from the client: no one stays on the primary for longer than a write would let him.
    try:
        return min(float(token), at_most)
    except (TypeError, ValueError):
        return 0.0
