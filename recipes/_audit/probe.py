# SPDX-License-Identifier: 0BSD
"""Runs in the interpreter that ``import_audit`` starts: import the application, and note what a fork would copy."""

import importlib
import json
import os
import threading
import weakref
from pathlib import Path

from sqlalchemy import Pool, event
from sqlalchemy.orm import Session


def look() -> None:
    """Import the application that the environment names, and write down what is there afterwards."""
    out = set()
    sessions = weakref.WeakSet()
    event.listen(Pool, "checkout", lambda connection, record, proxy: out.add(id(record)))
    event.listen(Pool, "checkin", lambda connection, record: out.discard(id(record)))
    event.listen(Session, "after_begin", lambda session, transaction, connection: sessions.add(session))
    before = set(threading.enumerate())
    module, _, attribute = os.environ["AUDITED_APPLICATION"].partition(":")
    found = importlib.import_module(module)
    for name in filter(None, attribute.removesuffix("()").split(".")):
        found = getattr(found, name)
    if attribute.endswith("()"):
        found = found()
    said = {
        "checked_out": len(out),
        "in_transaction": sum(session.in_transaction() for session in sessions),
        "threads": [thread.name for thread in threading.enumerate() if thread not in before],
    }
    Path(os.environ["AUDIT_REPORT"]).write_text(json.dumps(said))
