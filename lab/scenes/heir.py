"""A parent's session is in a transaction when the parent forks: what the child finds in its own copy of it (F1)."""

from __future__ import annotations

import json
import os
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from lab import procfs

# The backend, and the transaction by the server's own number. Both give a number to a transaction that writes.
WHO = {
    "postgresql": "select pg_backend_pid(), txid_current()",
    "mariadb": "select connection_id(), trx_id from information_schema.innodb_trx"
    " where trx_mysql_thread_id = connection_id()",
}


def main(engine: dict[str, Any], database: str, after: bool) -> dict[str, Any]:
    """Return what parent and child say of the session: ``object``, ``socket``, ``backend`` and ``transaction``.

    Args:
        engine: arguments of ``create_engine``.
        database: the kind of server.
        after: the control: the child makes an engine and a session of its own after the fork.
    """
    shared = create_engine(**engine)
    with shared.begin() as connection:
        connection.execute(text("drop table if exists heirloom"))
        connection.execute(text("create table heirloom (owner varchar(20))"))
    session = _in_transaction(Session(shared), "parent")
    port = shared.url.port
    hears, says = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            # Named anew, so that the inherited one lives on and neither is freed.
            childs = _in_transaction(Session(create_engine(**engine)), "child") if after else session
            os.write(says, json.dumps(_describe(childs, database, port)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(says)
    with open(hears) as report:
        child = json.load(report)
    return {"parent": _describe(session, database, port), "child": child}


def _in_transaction(session: Session, owner: str) -> Session:
    session.execute(text("insert into heirloom values (:owner)"), {"owner": owner})
    return session


def _describe(session: Session, database: str, port: int) -> dict[str, Any]:
    inherited = session.in_transaction()
    backend, transaction = map(int, session.execute(text(WHO[database])).one())
    # The newest: a child that has opened one of its own holds the inherited one as well.
    sockets = {fd: inode for fd, inode in procfs.sockets(os.getpid()).items() if inode in _clients(port)}
    return {
        "object": id(session),
        "in_transaction": inherited,
        "socket": sockets[max(sockets)],
        "backend": backend,
        "transaction": transaction,
    }


def _clients(port: int) -> set[int]:
    return {row.inode for row in procfs.tcp() if row.remote == port}
