"""The pages as a server finds them: ``application``, with the remedy and the database that ``LAB_APP`` names.

It notes when a request is over. The garbage collector is off, so that what a request left behind stays where it is.
"""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from lab.apps.asgi_app import build
from lab.apps.asgi_pages import Notes

SETTINGS = json.loads(os.environ["LAB_APP"])
_report = Path(SETTINGS["home"], "report")
_engine = (create_async_engine if SETTINGS["loop"] else create_engine)(**SETTINGS["engine"])
_app = build(SETTINGS["remedy"], _engine, Notes())
gc.collect()
gc.disable()


async def application(scope: Any, receive: Any, send: Any) -> None:
    try:
        await _app(scope, receive, send)
    finally:
        if scope["type"] == "http":
            with _report.open("a") as report:
                report.write(json.dumps({"event": "over", "path": scope["path"]}) + "\n")
