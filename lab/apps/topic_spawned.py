"""An ASGI application that asks the database one question while it is imported, and one per request."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs

from lab.apps.prefork import ask


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    nonce = parse_qs(scope["query_string"].decode())["nonce"][0]
    # It stands still with its event loop, so that the other process takes the next request.
    body = json.dumps(ask(nonce)).encode()
    time.sleep(0.05)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
