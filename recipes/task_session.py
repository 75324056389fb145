# SPDX-License-Identifier: 0BSD
# Recipe: task_session, version 1 (Forks, Threads and Sessions, /docs/recipes/#task-session)
"""One Session for each asyncio task, ended with it: committed, rolled back or cancelled, and closed to the end.

Problem: tasks of one ``gather`` that share a Session share its transaction. Connected, they do so without a word, and
one task's rollback takes another's acknowledged write; not connected, all but one fail. A Session that each task opens
and nobody closes keeps its connection, and more tasks than connections wait until the pool times out.

Use it when: tasks that run at the same time, in a request or a job, each work on the database.
Not when: the work has to be one transaction: then it is one task, which awaits one statement after the other.

``run_in_session(make_session, function, *arguments)`` awaits ``function(session, *arguments)``, commits, closes, and
returns what it returned. An exception or a cancellation rolls back. ``gather_in_sessions(make_session, function,
items, at_most=5)`` does so for each item, *at_most* of them at a time: as many as the pool has connections to spare.

*make_session* is an async_sessionmaker. It may be a sessionmaker: then *function* is a plain function, which runs in a
thread, with its Session. A thread cannot be interrupted: when its task is cancelled, it is waited for and rolled back.

What leaves the function is out of its Session: return values, not objects that have still something to load.

>>> import asyncio, os, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> from sqlalchemy import create_engine, text
>>> from sqlalchemy.orm import sessionmaker
>>> engine = create_engine("sqlite:///" + os.path.join(folder.name, "pages.db"), pool_size=2, max_overflow=0)
>>> make_session = sessionmaker(engine)
>>> def double(session, number):
...     return session.scalar(text("select 2 * :number"), {"number": number})
>>> asyncio.run(run_in_session(make_session, double, 21))
42
>>> asyncio.run(gather_in_sessions(make_session, double, range(10), at_most=2))
[0, 2, 4, 6, 8, 10, 12, 14, 16, 18]
>>> engine.pool.checkedout()
0
>>> asyncio.run(run_in_session(make_session(), double, 21))
Traceback (most recent call last):
TypeError: make_session is a Session: give the sessionmaker, so that each task gets a Session of its own
>>> engine.dispose()
>>> folder.cleanup()

Tested with SQLAlchemy 2.0 and 2.1, with asyncpg, psycopg, asyncmy and, in threads, SQLite. What SQLAlchemy says of it:
https://docs.sqlalchemy.org/en/21/orm/extensions/asyncio.html#using-asyncsession-with-concurrent-tasks
"""

import asyncio
import inspect
import threading


async def run_in_session(make_session, function, *arguments):
    """Return what ``function(session, *arguments)`` returns, once it is committed and the session closed.

    A cancellation that comes during the commit is raised when it is known whether that succeeded: it may have.

    Raises:
        TypeError: *make_session* or *function* is none that can be used here.
    """
    _check(make_session, function)
    session = make_session()
    if not inspect.iscoroutinefunction(session.close):
        return await _in_a_thread(session, function, arguments)
    if not inspect.iscoroutinefunction(function):
        raise TypeError("with an AsyncSession the function has to be an async one")
    try:
        result = await _to_the_end(function(session, *arguments), asyncio.Task.cancel)
        await _to_the_end(session.commit())
        return result
    finally:
        await _to_the_end(session.close())


async def gather_in_sessions(make_session, function, items, *, at_most):
    """Return a list of what ``function(session, item)`` returns for each of *items*, in their order.

    Args:
        items: taken one by one, as tasks become free.
        at_most: how many Sessions there may be at a time. No more than ``pool_size`` and ``max_overflow`` together.

    Raises:
        ExceptionGroup: of what was raised. What is under way is then cancelled and rolled back; what is done, stays.
        ValueError: *at_most* is less than one.
    """
    _check(make_session, function)
    if at_most < 1:
        raise ValueError(f"at_most is {at_most}: nothing would ever run")
    results, numbered = {}, enumerate(items)

    async def work():
        for number, item in numbered:
            results[number] = await run_in_session(make_session, function, item)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_most):
            group.create_task(work())
    return [results[number] for number in sorted(results)]


def _check(make_session, function) -> None:
    if hasattr(make_session, "remove"):
        raise TypeError("make_session is a registry, which hands out what others use: give it a sessionmaker")
    if not callable(make_session):
        name = type(make_session).__name__
        raise TypeError(f"make_session is a {name}: give the sessionmaker, so that each task gets a Session of its own")
    if not callable(function):
        raise TypeError(
            f"function is a {type(function).__name__}: give the function itself, and its arguments after it"
        )


async def _in_a_thread(session, function, arguments):
    if inspect.iscoroutinefunction(function):
        raise TypeError("with a plain Session, in a thread, the function cannot be an async one")
    cancelled = threading.Event()

    def work():
        with session:
            result = function(session, *arguments)
            if not cancelled.is_set():
                session.commit()
            return result

    return await _to_the_end(asyncio.to_thread(work), lambda _: cancelled.set())


async def _to_the_end(coroutine, told=lambda running: None):
    """Wait for its end, even if the task is cancelled, or cancelled again, meanwhile; *told* is called if it is, once.

    What is cancelled again while it cleans up after a cancellation may leave its connection checked out.
    """
    running, cancelled = asyncio.ensure_future(coroutine), None
    while not running.done():
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError as problem:
            if cancelled is None and not running.done():
                told(running)
            cancelled = problem
    result = running.result()
    if cancelled:
        raise cancelled
    return result
