"""An application with a thread in the background, started at import, by ``@postfork`` or by the first request."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs

from uwsgidecorators import postfork

settings = json.loads(os.environ["LAB_APP"])
report = Path(settings["home"]) / "report"
NAME = "background"


def note(event: str, **facts: object) -> None:
    with report.open("a") as file:
        file.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")


def work() -> None:
    while True:
        note("tick")
        time.sleep(0.05)


def begin() -> None:
    threading.Thread(target=work, name=NAME, daemon=True).start()


def application(environ, start_response):
    alive = NAME in [thread.name for thread in threading.enumerate()]
    if settings["begins"] == "request" and not alive:
        begin()
    note("request", alive=alive)
    start_response("200 OK", [("Content-Type", "application/json")])
    nonce = parse_qs(environ["QUERY_STRING"])["nonce"][0]
    return [json.dumps({"nonce": nonce, "pid": os.getpid(), "backend": 0}).encode()]


if settings["begins"] == "import":
    begin()
if settings["begins"] == "@postfork":
    postfork(begin)
