"""The server's side of PEP 3333, one step at a time, so that a run decides which steps are taken."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from wsgiref.util import setup_testing_defaults

from lab.drivers import spoken

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Exchange:
    """One request and what became of it; ``status`` is empty where the application began no response.

    ``raised`` is the exception that reached the server, as a traceback ends with it.
    """

    status: str = ""
    body: bytes = b""
    raised: str = ""
    events: list[str] = field(default_factory=list)


def exchange(app: Application, path: str, method: str = "GET", *, chunks: int | None = None) -> Exchange:
    """Call *app* as a server does: call it, iterate over what it returns, and in any case call ``close()`` on that.

    Args:
        chunks: after how many the client is gone, and the server stops; 0 for a body that is not iterated at all,
            which PEP 3333 allows for HEAD (https://peps.python.org/pep-3333/#specification-details).
    """
    seen = Exchange()
    environ: dict[str, Any] = {"PATH_INFO": path, "REQUEST_METHOD": method, "wsgi.errors": io.StringIO()}
    environ["lab.events"] = seen.events
    setup_testing_defaults(environ)

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        seen.status = status
        seen.events.append("start_response")
        return lambda data: None

    result: Iterable[bytes] = ()
    try:
        try:
            result = app(environ, start_response)
            seen.events.append("app() returned")
            if chunks != 0:
                for count, chunk in enumerate(result, 1):
                    seen.body += chunk
                    seen.events.append("chunk")
                    if count == chunks:
                        break
        finally:
            if hasattr(result, "close"):
                result.close()
            seen.events.append("close")
    except Exception as problem:
        seen.raised = spoken(problem)
    return seen
