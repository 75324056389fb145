"""What a client leaves on a server connection of a PgBouncer, and what it finds when it comes back to another one.

As for prepared statements: two server connections, and a client that keeps one of them busy where that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.scenes.bouncer_clients import Client, begin, clients, end, leave, run

Arguments = Mapping[str, Any]


def main(
    arguments: Arguments, plain: Arguments, rows: list[str], settings: Mapping[str, Any] = {}
) -> dict[str, dict[str, str]]:
    """Return for each of *rows* what became of it for the client ``itself`` and for ``others``, as words: ``right``;
    ``lost`` where the client does not find later what it set; ``leaked`` where another client finds it.

    Args:
        arguments: of ``create_engine``, for PgBouncer with two server connections.
        plain: the same for the other clients.
        settings: more arguments for the engine of the client that is looked at.
    """
    told = {}
    for number, row in enumerate(rows):
        pool = f"pool{number}"
        with clients(1, arguments, settings, pool=pool) as (a,), clients(2, plain, pool=pool) as (b, holder):
            told[row] = _play(ROWS[row], a, b, holder)
    return told


@dataclass(frozen=True)
class Row:
    """*act* is done in a transaction, *look* in a later one, where it should find *value*.

    What ends with the transaction, *local*, has to be found in that, and later by nobody.
    """

    act: str
    look: str
    value: object
    local: bool = False


def _play(row: Row, a: Client, b: Client, holder: Client) -> dict[str, str]:
    a(run, row.act)
    # Where A does not keep its server connection, it gets the other one now.
    holder(begin)
    own = a(run, *([row.act] if row.local else []), row.look).value
    holder(end)
    # And now the first one again, as it was given back last; then A goes, and B gets it.
    a(run, row.act)
    a(leave)
    others = b(run, row.look).value
    return {"itself": "right" if own == row.value else "lost", "others": "leaked" if others == row.value else "right"}


_LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
ROWS = {
    "SET": Row("set search_path = elsewhere", "show search_path", "elsewhere"),
    "SET TimeZone": Row("set timezone = 'Asia/Tokyo'", "show timezone", "Asia/Tokyo"),
    "temporary table": Row(
        "create temporary table if not exists mine (id int)", "select to_regclass('mine') is not null", True
    ),
    "LISTEN": Row("listen news", "select 'news' in (select pg_listening_channels())", True),
    "SET LOCAL": Row("set local search_path = elsewhere", "show search_path", "elsewhere", local=True),
    "temporary table, on commit drop": Row(
        "create temporary table mine (id int) on commit drop",
        "select to_regclass('mine') is not null",
        True,
        local=True,
    ),
    "isolation_level": Row("select 1", "show transaction_isolation", "serializable"),
}
