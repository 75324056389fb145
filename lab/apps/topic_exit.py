"""An application that has asked the database, and says at the end of its process what it has been told to say."""

from __future__ import annotations

import atexit
import json
import os
from urllib.parse import parse_qs

from sqlalchemy import create_engine, text

from lab.drivers import QUESTION

settings = json.loads(os.environ["LAB_APP"])
engine = create_engine(**settings["engine"])
open_ones = []


def application(environ, start_response):
    nonce = parse_qs(environ["QUERY_STRING"])["nonce"][0]
    connection = engine.connect()
    row = connection.execute(text(QUESTION[settings["database"]]), {"nonce": nonce}).one()
    if settings["leaves"] == "checked out":
        open_ones.append(connection)
    else:
        connection.close()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"nonce": row.nonce, "backend": int(row.backend), "pid": os.getpid()}).encode()]


def end() -> None:
    # What is checked out is no longer the pool's, and dispose() does not reach it.
    if settings["at_exit"].startswith("close()"):
        for connection in open_ones:
            connection.close()
    engine.dispose()


if settings["at_exit"] != "nothing":
    atexit.register(end)
