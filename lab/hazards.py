"""What can befall a request that uses a Session, and the outcome as client, server and next request see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from lab.pages import CHANGED, WHOLE, Truth, same
from lab.wsgi import Exchange


@dataclass(frozen=True)
class Hazard:
    """One kind of request, and what is right for it.

    Attributes:
        path: what is asked for, of the application that the scene has.
        body: the whole body, or as much of it as a client gets that goes after *chunks*.
        raised: what the application itself raises, and what may therefore reach the server.
    """

    path: str
    body: str = WHOLE
    status: str = "200 OK"
    method: str = "GET"
    chunks: int | None = None
    raised: str = ""


def judged(truth: Truth, engine: Engine, hazard: Hazard, ask: Callable[..., Exchange]) -> dict[str, Any]:
    """Put a request of the kind *hazard*, look at what it left, put the next one, which commits, and look again.

    The outcome is "right", or what of "truncated", "error", "leaked" and "dirty" it is; ``says`` holds what that was
    told by. Both requests are put by *ask*, in this thread.
    """
    seen = ask(hazard.path, hazard.method, chunks=hazard.chunks)
    left = {"connections checked out": engine.pool.checkedout(), "transactions open": truth.open_transactions()}
    after = ask("/touch")
    flaws, says = [_flaw(seen, hazard)], []
    if flaws[0]:
        says += [same(seen.raised) or f"status {seen.status or 'none'}, body {seen.body.decode()!r}"]
    if any(left.values()):
        flaws.append("leaked")
        says += [f"{what}: {count}" for what, count in left.items() if count]
    if truth.stored() == CHANGED:
        flaws.append("dirty")
        says.append(f"the next request read {after.body.decode()!r} and committed it")
    if after.raised or after.status != "200 OK":
        says.append(f"the next request: {same(after.raised) or after.status}")
    return {"outcome": " and ".join(filter(None, flaws)) or "right", "says": says, "events": seen.events}


def _flaw(seen: Exchange, hazard: Hazard) -> str:
    body = seen.body.decode()
    if (seen.status, body, seen.raised) == (hazard.status, hazard.body, hazard.raised):
        return ""
    cut = seen.status == hazard.status and hazard.body.startswith(body) and "DetachedInstanceError" in seen.raised
    return "truncated" if cut else "error"


# What ends a Session in the Flask application of the lab.
AFTER_REQUEST, TEARDOWN_REQUEST, TEARDOWN_APPCONTEXT = "after_request", "teardown_request", "teardown_appcontext"
WITH_IN_VIEW, WITH_IN_BODY = "with Session() in the view", "with Session() in the generator"
DB_SESSION, FLASK_RECIPE = "db.session", "recipe flask_session"
FLASK_REMEDIES = (
    "none", AFTER_REQUEST, TEARDOWN_REQUEST, TEARDOWN_APPCONTEXT, WITH_IN_VIEW, WITH_IN_BODY, DB_SESSION, FLASK_RECIPE,
)  # fmt: skip
