"""An application with a thread in the background, started at import, by ``@postfork`` or by the first request."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

from uwsgidecorators import postfork

from lab import procfs

settings = json.loads(os.environ["LAB_APP"])
home = Path(settings["home"])
NAME = "background"


def note(event: str, **facts: object) -> None:
    with (home / "report").open("a") as file:
        file.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")


def work() -> None:
    # It waits outside of Python, so that no fork ever meets it at work.
    orders = os.open(home / "orders", os.O_RDWR)
    while os.read(orders, 1):
        note("did")


def begin() -> None:
    with contextlib.suppress(FileExistsError):
        os.mkfifo(home / "orders")
    thread = threading.Thread(target=work, name=NAME, daemon=True)
    thread.start()
    while procfs.waits_in(thread.native_id) != "read":
        time.sleep(0.005)


def application(environ, start_response):
    listed = NAME in [thread.name for thread in threading.enumerate()]
    if settings["begins"] == "request" and not listed:
        begin()
    note("request", listed=listed)
    start_response("200 OK", [("Content-Type", "application/json")])
    nonce = parse_qs(environ["QUERY_STRING"])["nonce"][0]
    return [json.dumps({"nonce": nonce, "pid": os.getpid(), "backend": 0}).encode()]


if settings["begins"] == "import":
    begin()
if settings["begins"] == "@postfork":
    postfork(begin)
