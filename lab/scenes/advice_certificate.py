"""Certificates are checked in full; a process forks two children, with or without a connection in its pool.

Everybody asks once and in turn: the children, who leave through ``os._exit``, and then the parent.
"""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import Engine, create_engine, text

from lab.drivers import QUESTION, spoken

VERSION = "select version from pg_stat_ssl where pid = pg_backend_pid()"
CHILDREN = 2


def main(engine: dict[str, Any], before: bool) -> dict[str, Any]:
    """Play it: what came of each question, in turn, and the version of TLS that the server saw last.

    Args:
        engine: arguments of ``create_engine``.
        before: whether the parent asks before it forks, too.
    """
    shared = create_engine(**engine)
    asked = [_ask(shared)] if before else []
    answers = [_child(shared) for _ in range(CHILDREN)]
    return {"before": asked, "after": [*answers, _ask(shared)]}


def _child(engine: Engine) -> dict[str, Any]:
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(says, json.dumps(_ask(engine)).encode())
        finally:
            os._exit(0)
    os.close(says)
    os.waitpid(child, 0)
    with os.fdopen(hears) as told:
        return json.loads(told.read())


def _ask(engine: Engine) -> dict[str, Any]:
    nonce = str(os.getpid())
    try:
        with engine.connect() as connection:
            row = connection.execute(text(QUESTION["postgresql"]), {"nonce": nonce}).one()
            tls = connection.scalar(text(VERSION))
    except Exception as problem:
        return {"outcome": {"kind": "error", "message": spoken(problem)}, "tls": ""}
    return {"outcome": {"kind": "right" if row.nonce == nonce else "wrong"}, "tls": tls or ""}
