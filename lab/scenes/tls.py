"""A process opens a connection, forks one child, lets it ask one question, and then asks one of its own.

Nothing is left to chance: the child has asked, been answered and left, through ``os._exit``, before the parent goes on.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

from sqlalchemy import Engine, String, bindparam, create_engine, text

from lab.drivers import QUESTION, spoken

# What the server says of a connection's encryption: version and cipher, nothing where there is none.
ENCRYPTION = {
    "postgresql": "select version, cipher from pg_stat_ssl where pid = pg_backend_pid()",
    "mariadb": "select max(if(variable_name = 'SSL_VERSION', variable_value, '')),"
    " max(if(variable_name = 'SSL_CIPHER', variable_value, '')) from information_schema.session_status",
}


def main(engine: dict[str, Any], database: str, child_nonce: str, separate: bool = False) -> dict[str, Any]:
    """Play the scene; return what child and parent got, their process ids, the parent's connection and its encryption.

    Args:
        engine: arguments of ``create_engine``.
        child_nonce: what the child asks for. What the parent asks for, its ``secret``, it makes up after the fork.
        separate: the control: the child has a connection of its own, opened like the parent's and as old.
    """
    parents = create_engine(**engine)
    childs = create_engine(**engine) if separate else parents
    opened = {one: _open(one, database) for one in (parents, childs)}[parents]
    hears, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(says, json.dumps(_ask(childs, database, child_nonce)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(says)
    child = json.loads(os.read(hears, 65536))
    secret = f"known to the parent only: {secrets.token_hex(8)}"
    parent = _ask(parents, database, secret)
    pids = {"parent": os.getpid(), "child": pid}
    return {**opened, "pids": pids, "secret": secret, "child": child, "parent": parent}


def _ask(engine: Engine, database: str, nonce: str) -> dict[str, Any]:
    # Part of the statement's text, and so of the first record, whatever a driver does with parameters.
    question = text(QUESTION[database]).bindparams(bindparam("nonce", type_=String, literal_execute=True))
    try:
        with engine.connect() as connection:
            row = connection.execute(question, {"nonce": nonce}).one()
    except Exception as problem:
        return {"outcome": {"kind": "error", "message": spoken(problem)}, "backend": 0}
    return {"outcome": {"kind": "right" if row.nonce == nonce else "wrong"}, "backend": int(row.backend)}


def _open(engine: Engine, database: str) -> dict[str, Any]:
    with engine.connect() as connection:
        version, cipher = connection.execute(text(ENCRYPTION[database])).one()
    return {"tls": version or "", "cipher": cipher or "", "backend": _ask(engine, database, "first")["backend"]}
