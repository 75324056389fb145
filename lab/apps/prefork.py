"""An application that asks the database one question while it is imported, and one per request.

That is the whole hazard: under a prefork server the import happens in the master, and every worker inherits the
connection that it left in the pool.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

from sqlalchemy import create_engine, text

from lab.drivers import QUESTION, spoken
from lab.remedies import REMEDIES

settings = json.loads(os.environ["LAB_APP"])
remedy = REMEDIES[settings["remedy"]]
question = text(QUESTION[settings["database"]])
home = Path(settings["home"])
engine = create_engine(**settings["engine"], **remedy.engine)
remedy.prepare(engine)


def ask(nonce: str) -> dict[str, object]:
    """Ask the database for *nonce*; the answer tells which backend gave it."""
    with engine.connect() as connection:
        row = connection.execute(question, {"nonce": nonce}).one()
    return {"nonce": row.nonce, "backend": int(row.backend), "pid": os.getpid()}


def note(event: str, **facts: object) -> None:
    """Append one line to the report that the experiment reads."""
    with (home / "report").open("a") as report:
        report.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")


def in_turn(nonce: str, *, collect: bool) -> dict[str, object]:
    """Wait until every worker holds a request, then ask (and run a full collection) while no other worker does."""
    call = home / "roll"
    with call.open("a") as present:
        present.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + 10
    while len(set(call.read_text().split())) < settings["workers"] and time.monotonic() < deadline:
        time.sleep(0.005)
    with (home / "turn").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if collect:
            gc.collect()
        return ask(nonce)


def application(environ, start_response):
    nonce = parse_qs(environ["QUERY_STRING"]).get("nonce", [""])[0]
    try:
        path = environ["PATH_INFO"]
        body = in_turn(nonce, collect=path == "/roll/collect") if path.startswith("/roll") else ask(nonce)
        status = "200 OK"
    except Exception as problem:
        body = {"error": spoken(problem), "pid": os.getpid()}
        status = "500 Internal Server Error"
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(body).encode()]


note("import", **ask("import"))
remedy.install(engine)
