"""An application with much to load and no database: modules and a catalogue, all made while it is imported.

What prefork saves lies here: made once in the master, it is shared until somebody writes to its pages, and Python
writes to an object whenever it looks at one.
"""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

import sqlalchemy.ext.automap
import sqlalchemy.orm  # noqa: F401 - it is imported for its size

settings = json.loads(os.environ["LAB_APP"])
home = Path(settings["home"])
catalogue = [
    {"number": n, "name": f"article {n}", "price": n * 1.01, "tags": [f"group {n % 100}", f"shelf {n % 977}"]}
    for n in range(settings["articles"])
]


def look_up(n: int) -> float:
    """What an ordinary request does: one article, and work that makes new objects."""
    article = catalogue[n % len(catalogue)]
    return sum(len(tag) for tag in article["tags"]) + article["price"]


def read_all() -> float:
    return sum(article["price"] for article in catalogue)


def wait_for_all_workers() -> None:
    call = home / "roll"
    with call.open("a") as present:
        present.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + 10
    while len(set(call.read_text().split())) < settings["workers"] and time.monotonic() < deadline:
        time.sleep(0.005)


def application(environ, start_response):
    nonce = parse_qs(environ["QUERY_STRING"])["nonce"][0]
    path = environ["PATH_INFO"]
    if path != "/":
        # So that every worker does it exactly once.
        wait_for_all_workers()
    result = {"/": lambda: look_up(int(nonce[1:])), "/read": read_all, "/collect": gc.collect}[path]()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"nonce": nonce, "pid": os.getpid(), "backend": 0, "result": result}).encode()]


if settings["freeze"]:
    gc.freeze()
