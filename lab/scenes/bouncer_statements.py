"""Two clients of a PgBouncer in transaction mode put a query each, and are moved from server connection to another.

The pool has two server connections and hands out the one that was given back last. A third client, which prepares
nothing, keeps the one busy that somebody is not to get: which connection serves whom is no matter of luck.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from lab.scenes.bouncer_clients import Answer, Client, ask, begin, clients, end

# psycopg prepares a statement when it is executed for the sixth time.
OFTEN = 6


def main(
    arguments: Mapping[str, Any], plain: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return, by name of the settings and row, the worst that became of a query, what was said, whether the
    choreography held, and how many prepared statements are left on the server connection that was used last.

    Args:
        arguments: of ``create_engine``, for PgBouncer.
        plain: the same for a driver that prepares nothing.
        settings: by name, more arguments for the engine of the two, as :func:`lab.scenes.bouncer_clients.clients`
            takes them.
    """
    # A pool for each: what one left on a server connection is not to meet another.
    pools = (f"pool{number}" for number in itertools.count())
    return {
        name: {row: _play(row, next(pools), arguments, plain, more) for row in ROWS} for name, more in settings.items()
    }


def _play(row: str, pool: str, arguments: Any, plain: Any, settings: Any) -> dict[str, Any]:
    with clients(2, arguments, settings, pool=pool) as (a, b), clients(1, plain, pool=pool) as (holder,):
        judged, moved = ROWS[row](a, b, holder)
        holder(end)
        left = holder(begin, "select count(*) from pg_prepared_statements").value
    words = [_word(who, answer) for who, answer in judged]
    worst = next((word for word in ("wrong", "error") if word in words), "right")
    said = dict.fromkeys(answer.says for _, answer in judged if answer.says)
    return {"word": worst, "says": list(said), "as choreographed": moved, "left": left}


def _word(who: str, answer: Answer) -> str:
    if answer.says:
        return "error"
    return "right" if answer.value[:2] == [f"of {who}", who] else "wrong"


def _put(client: Client, who: str, times: int = 1) -> Answer:
    return client(ask, who, f"of {who}", times)


Judged = list[tuple[str, Answer]]


def _same(a: Client, b: Client, holder: Client) -> tuple[Judged, bool]:
    """All in turn: everybody gets the same server connection."""
    judged = [(who, _put(client, who, OFTEN)) for _ in range(2) for who, client in (("A", a), ("B", b))]
    return judged, len(_backends(judged)) <= 1


def _other(a: Client, b: Client, holder: Client) -> tuple[Judged, bool]:
    """A's second transaction gets a server connection that has never seen A."""
    first = _put(a, "A", OFTEN)
    held = holder(begin).value
    judged = [("A", first), ("A", _put(a, "A"))]
    return judged, held in _backends(judged[:1]) and held not in _backends(judged[1:])


def _swapped(a: Client, b: Client, holder: Client) -> tuple[Judged, bool]:
    """A's second transaction gets the server connection on which B was before."""
    first = _put(a, "A", OFTEN)
    held = holder(begin).value
    judged = [("A", first), ("B", _put(b, "B", OFTEN)), ("A", _put(a, "A"))]
    return judged, held in _backends(judged[:1]) and held not in _backends(judged[1:])


def _backends(judged: Judged) -> set[int]:
    return {answer.value[2] for _, answer in judged if answer.value}


ROWS: dict[str, Callable[[Client, Client, Client], tuple[Judged, bool]]] = {
    "after another client": _same,
    "moved to a new connection": _other,
    "moved to another client's": _swapped,
}
