"""Two clients of a PgBouncer that take an advisory lock in turn, so that only one of them works."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.scenes.bouncer_clients import Client, begin, clients, end, leave, run

LOCK, TRY, UNLOCK = "select pg_advisory_lock(7)", "select pg_try_advisory_lock(7)", "select pg_advisory_unlock(7)"
LOCK_HERE, TRY_HERE = "select pg_advisory_xact_lock(7)", "select pg_try_advisory_xact_lock(7)"


def main(arguments: Mapping[str, Any], transaction: bool) -> dict[str, Any]:
    """Return ``second owner``: B got the lock while A had it; ``unlocked``: A could give it back; and ``left``: how
    many locks there are when both are gone.

    Args:
        arguments: of ``create_engine``.
        transaction: take the lock that ends with its transaction.
    """
    with clients(3, arguments, pool="postgres") as (a, b, holder):
        found = (_for_a_transaction if transaction else _for_a_session)(a, b, holder)
        for client in (a, b):
            client(leave)
        left = holder(begin, "select count(*) from pg_locks where locktype = 'advisory'").value
        return {**found, "left": left}


def _for_a_session(a: Client, b: Client, holder: Client) -> dict[str, Any]:
    a(run, LOCK)
    second = b(run, TRY).value
    # Where A does not keep its server connection, it gets the other one now.
    holder(begin)
    unlocked = a(run, UNLOCK).value
    holder(end)
    return {"second owner": second, "unlocked": unlocked}


def _for_a_transaction(a: Client, b: Client, holder: Client) -> dict[str, Any]:
    a(begin, LOCK_HERE)
    second = b(run, TRY_HERE).value
    a(end)
    return {"second owner": second, "unlocked": b(run, TRY_HERE).value}
