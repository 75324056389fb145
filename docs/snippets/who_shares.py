import asyncio
import logging
import threading
import weakref

from sqlalchemy import event
from sqlalchemy.orm import Session

log = logging.getLogger("who_shares")


def tell_who_shares(session_class=Session):
    users = weakref.WeakKeyDictionary()

    def tell(session):
        seen = users.setdefault(session, set())
        if (user := _user()) not in seen:
            seen.add(user)
            if len(seen) > 1:
                log.warning("one Session, %d users: %s", len(seen), ", ".join(sorted(seen)))

    event.listen(session_class, "do_orm_execute", lambda state: tell(state.session))
    event.listen(session_class, "before_flush", lambda session, *_: tell(session))
    event.listen(session_class, "after_begin", lambda session, *_: tell(session))


def _user():
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    # A pool's threads have names that stay; a number tells those apart that have none of their own.
    return f"task {task.get_name()}" if task else f"thread {threading.current_thread().name}"
