"""One server connection for two clients of a PgBouncer: A has asked, and keeps something; is B served?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import make_url

from lab import pgbouncer
from lab.process import wait_until
from lab.scenes.bouncer_clients import ask, begin, clients, end, leave

POOL = "turns"


def main(arguments: Mapping[str, Any], settings: Mapping[str, Any], keeps_open: bool, seconds: float) -> dict[str, Any]:
    """Return what becomes of B's query, ``right`` or ``hangs`` as long as A keeps what it has, and of it and A's next
    statement afterwards; and what PgBouncer counts while A is at rest.

    Args:
        arguments: of ``create_engine``, for PgBouncer with one server connection.
        settings: more of them.
        keeps_open: A leaves its transaction open; otherwise it commits and closes.
        seconds: the time after which B is said to hang, once PgBouncer has it waiting.
    """
    port = make_url(arguments["url"]).port

    def pool() -> dict[str, Any]:
        return pgbouncer.pool(port, POOL)

    with clients(2, arguments, settings, pool=POOL) as (a, b):
        a(begin) if keeps_open else a(ask, "A", "of A")
        # What A sent as it closed may be under way.
        resting = wait_until(lambda: (now := pool()) and not now["sv_used"] + now["sv_tested"] and now, "rest")
        b.start(ask, "B", "of B")
        found = wait_until(lambda: b.answer(0) or (pool()["cl_waiting"] and "waits"), "B is served, or waits")
        # PgBouncer may end the wait by itself.
        early = b.answer(seconds) if found == "waits" else found
        if keeps_open:
            again = a(begin)
            a(end)
        else:
            again = a(ask, "A", "again")
            a(leave)
        late = early or b.answer(30)
    return {
        "B": _word(early),
        "B, afterwards": _word(late),
        "A, afterwards": "error" if again.says else "right",
        "says": {"A, afterwards": [again.says] if again.says else []},
        "client connections": resting["cl_active"],
        "server connections taken": resting["sv_active"],
    }


def _word(answer: Any) -> str:
    if answer is None:
        return "hangs"
    return "error" if answer.says else "right" if answer.value[:2] == ["of B", "B"] else "wrong"
