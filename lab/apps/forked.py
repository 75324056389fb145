"""An application that asks the database while it is imported, and once per job, and notes all that a fork does to it.

Whoever imports it before a fork leaves a connection to the children. Its jobs say over whose connection they spoke;
its handlers say which of Python's ways to notice a fork were called, where, and how a process ended.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import time
from multiprocessing import util
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, Table, create_engine, event, text
from sqlalchemy.orm import Session

from lab.drivers import QUESTION, spoken
from recipes.fork_safe_engine import protect

settings = json.loads(os.environ["LAB_APP"])
home = Path(settings["home"])
remedy = settings["remedy"]
question = text(QUESTION[settings["database"]])
engine = create_engine(**settings["engine"])
# Who opened the connection that was checked out last.
opened_by = 0


@event.listens_for(engine, "connect")
def remember(dbapi_connection, record):
    record.info["opened_by"] = os.getpid()


@event.listens_for(engine, "checkout")
def look(dbapi_connection, record, proxy):
    global opened_by
    opened_by = record.info["opened_by"]


def note(event: str, **facts: object) -> None:
    """Append one line to the report that the experiment reads."""
    with (home / "report").open("a") as report:
        report.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")


def ask(nonce: str) -> dict[str, Any]:
    """Ask the database for *nonce*: what came of it, which backend answered, and which process had opened that."""
    global opened_by
    opened_by = 0
    try:
        with engine.connect() as connection:
            row = connection.execute(question, {"nonce": nonce}).one()
        outcome = {"kind": "right" if row.nonce == nonce else "wrong"}
        backend = int(row.backend)
    except Exception as problem:
        outcome, backend = {"kind": "error", "message": spoken(problem)}, 0
    return {"outcome": outcome, "backend": backend, "opened_by": opened_by}


def job(lap: str, nonce: str) -> None:
    """Wait until as many processes as there should be at a time have a job of this *lap*, then ask, one after the
    other, and collect garbage: what a remedy only forgot is freed now."""
    call = home / f"lap-{lap}"
    with call.open("a") as present:
        present.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + 30
    while len(set(call.read_text().split())) < settings["abreast"] and time.monotonic() < deadline:
        time.sleep(0.005)
    with (home / "turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        answer = ask(nonce)
        gc.collect()
        note("job", lap=lap, **answer)


def hook(name: str) -> None:
    """What the forker's hook calls: it is noted, and does what the setup's remedy is."""
    note("hook", name=name)
    if remedy == "dispose()":
        engine.dispose()
    elif remedy == "dispose(close=False)":
        engine.dispose(close=False)


class Farewell:
    """Notes that the interpreter takes itself apart, as it does at an ordinary exit and not after ``os._exit``."""

    def __init__(self) -> None:
        self.needs = (os.open, os.write, os.close, os.getpid, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.path = str(home / "report")

    def __del__(self) -> None:
        open_, write, close, getpid, flags = self.needs
        descriptor = open_(self.path, flags)
        write(descriptor, b'{"event": "finalised", "pid": %d}\n' % getpid())
        close(descriptor)


def _health_check() -> None:
    def create_app() -> object:
        with Session(engine) as session:
            session.execute(text("select 1"))
        return object()

    create_app()


def _tables() -> MetaData:
    metadata = MetaData()
    Table("forked", metadata, Column("id", Integer, primary_key=True))
    return metadata


AT_IMPORT = {
    "import only": lambda: None,
    "one SELECT": lambda: note("import", **ask("import")),
    "create_all": lambda: _tables().create_all(engine),
    "reflection": lambda: MetaData().reflect(engine),
    "a health check in the application factory": _health_check,
}

if remedy == "recipe fork_safe_engine":
    protect(engine)
os.register_at_fork(
    before=lambda: note("before"),
    after_in_parent=lambda: note("after_in_parent"),
    after_in_child=lambda: note("after_in_child"),
)
# Kept, as the registry does not keep what it is given.
registered = Farewell()
util.register_after_fork(registered, lambda _: note("register_after_fork"))
atexit.register(note, "atexit")
AT_IMPORT[settings["at_import"]]()
if remedy.startswith("recipe ") and remedy != "recipe fork_safe_engine":
    importlib.import_module(f"recipes.{remedy.removeprefix('recipe ')}").install(engine)
