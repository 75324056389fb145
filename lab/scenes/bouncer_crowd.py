"""Many clients at once, each with a connection that it keeps until the last one has its answer or its error."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from lab.drivers import spoken
from lab.scenes.bouncer_clients import WHO


def main(arguments: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return how many of *count* clients got their own answer, another's, or an error; the messages, and by how many
    server connections they were served.

    Args:
        arguments: of ``create_engine``.
    """
    engine = create_engine(**arguments, poolclass=NullPool)
    together = threading.Barrier(count)
    words, messages, backends = Counter(), Counter(), set()

    def client(number: int) -> None:
        together.wait()
        connection = None
        try:
            connection = engine.connect()
            row = connection.execute(text(WHO["A"]), {"nonce": f"of {number}"}).one()
            connection.commit()
            words["right" if row.nonce == f"of {number}" else "wrong"] += 1
            backends.add(row.backend)
        except Exception as problem:
            words["error"] += 1
            messages[_cause(spoken(problem))] += 1
        together.wait()
        if connection:
            connection.invalidate()
            connection.close()

    threads = [threading.Thread(target=client, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        **{word: words[word] for word in ("right", "wrong", "error")},
        "messages": dict(messages),
        "server connections": len(backends),
    }


def _cause(message: str) -> str:
    """The message's last line: the ones before it name ports."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    fatal = [line[line.index("FATAL") :] for line in lines if "FATAL" in line]
    return (fatal or lines)[0]
