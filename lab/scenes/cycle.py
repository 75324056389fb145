"""What frees a Session whose last name is dropped: its reference count, or only the collector (F3)."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session


def main(state: str) -> dict[str, Any]:
    """Drop the only name of a session that is ``in a transaction``, ``closed`` or was ``never used``.

    Return what had referred to it, and whether it lived on until, and after, a collection.
    """
    # No collection but the one that is asked for.
    gc.disable()
    session = Session(create_engine("sqlite://"))
    if state != "never used":
        session.execute(text("select 1"))
    if state == "closed":
        session.close()
    transaction = session.get_transaction()
    referrers = sorted(
        # Its variables, where they are kept apart from the object itself.
        type(transaction).__name__ if transaction and thing is vars(transaction) else type(thing).__name__
        for thing in gc.get_referrers(session)
        if not hasattr(thing, "f_back")
    )
    cycle = transaction is not None and transaction.session is session
    del transaction
    watched = weakref.ref(session)
    del session
    lives = watched() is not None
    gc.collect()
    return {"referrers": referrers, "cycle": cycle, "outlives_its_name": lives, "outlives_gc": watched() is not None}
