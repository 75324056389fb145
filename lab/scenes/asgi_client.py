"""The server's side of a request to an ASGI application, fed by hand, and what may happen to that request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lab.apps.asgi_pages import COMMENTS, OLD

WHOLE = OLD + "".join(COMMENTS)


@dataclass(frozen=True)
class Hazard:
    """A request, and what happens to it.

    Attributes:
        body: what the client is to get; empty if the request is to fail.
        leaves: when the client does: "before" the response, or in "mid-stream".
        tells: how the application can know: by "http.disconnect", or an "OSError" from ``send``.
        cancelled: once the page waits.
        said: what the background task is to say.
        under: a BaseHTTPMiddleware that does nothing lies around the application.
    """

    path: str
    body: str = ""
    method: str = "GET"
    leaves: str = ""
    tells: str = "http.disconnect"
    cancelled: bool = False
    said: str = ""
    under: bool = False


HAZARDS = {
    "plain": Hazard("plain", OLD),
    "stream, lazy load": Hazard("stream", WHOLE),
    "stream, query": Hazard("rows", WHOLE),
    "HEAD": Hazard("stream", method="HEAD"),
    "client gone in mid-stream, http.disconnect": Hazard("stream", leaves="mid-stream"),
    "client gone in mid-stream, send fails": Hazard("stream", leaves="mid-stream", tells="OSError"),
    "client gone before the response": Hazard("plain", leaves="before", tells="OSError"),
    "exception after a flush": Hazard("fail"),
    "HTTPException after a flush": Hazard("refuse"),
    "exception in mid-stream": Hazard("midfail"),
    "exception in another middleware": Hazard("spoilt"),
    "exception in another dependency": Hazard("torn"),
    "background task, lazy load": Hazard("task_lazy", OLD, said="".join(COMMENTS)),
    "background task, query": Hazard("task_query", OLD, said="".join(COMMENTS)),
    "cancelled in a query": Hazard("slow", cancelled=True),
    "cancelled between queries": Hazard("idle", cancelled=True),
    "client gone, another BaseHTTPMiddleware": Hazard("stream", leaves="mid-stream", under=True),
}
ONLY_FASTAPI = ("exception in another dependency",)
# In a thread a query cannot be cancelled.
ONLY_IN_LOOP = ("cancelled in a query",)


@dataclass
class Client:
    """The server's side of one request: what the application receives, and where it sends."""

    hazard: Hazard
    status: int = 0
    body: str = ""
    done: bool = False
    asked: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def scope(self) -> dict[str, Any]:
        # From 2.4 on a server may say by an exception of send() that the client has gone.
        spec = "2.4" if self.hazard.tells == "OSError" else "2.3"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec},
            "http_version": "1.1",
            "method": self.hazard.method,
            "scheme": "http",
            "path": f"/{self.hazard.path}",
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "server": ("127.0.0.1", 80),
        }

    async def receive(self) -> dict[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        self.told.set()
        return {"type": "http.disconnect"}

    async def send(self, message: Mapping[str, Any]) -> None:
        if self.hazard.leaves == "before" or self.gone.is_set():
            self.gone.set()
            if self.hazard.tells == "OSError":
                raise OSError("the client has gone")
            # As uvicorn does: dropped.
            return
        self.status = message.get("status", self.status)
        self.body += message.get("body", b"").decode()
        self.done = message["type"] == "http.response.body" and not message.get("more_body")
        if self.hazard.leaves == "mid-stream" and self.body:
            self.gone.set()
            if self.hazard.tells == "http.disconnect":
                # Nothing more is sent before the application knows, if it ever asks, and has acted upon it.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.told.wait(), 1)
                for _ in range(100):
                    await asyncio.sleep(0)
