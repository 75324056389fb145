"""A process with one pooled connection forks, again and again: what becomes of each child, and of the parent's pool."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, text

from recipes.fork_safe_engine import protect


def main(engine: dict[str, Any], question: str, protected: bool, children: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """Return one row for each of *children*: what the parent got ``before``, the ``child``, and the parent ``after``.

    Args:
        engine: arguments of ``create_engine``.
        question: takes ``:nonce`` and answers with ``nonce`` and ``backend``.
        protected: whether the recipe is applied.
        children: the steps of each child, one after the other: ``query``, ``dispose``, ``dispose(close=False)``,
            ``gc.collect``, a list of steps for a child of its own, and last ``sys.exit`` or ``os._exit``.
    """
    shared = create_engine(**engine)
    if protected:
        protect(shared)
    rows = []
    for steps in children:
        before = _ask(shared, question)
        rows.append({"before": before, "child": _fork(shared, question, steps), "after": _ask(shared, question)})
    return {"rows": rows}


def _fork(engine: Engine, question: str, steps: Sequence[Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        with open(writer, "w") as report:
            json.dump([_take(step, engine, question) for step in steps[:-1]], report)
        {"sys.exit": sys.exit, "os._exit": os._exit}[steps[-1]](0)
    os.close(writer)
    with open(reader) as report:
        told = report.read()
    return {"told": json.loads(told or "[]"), "exit": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}


def _take(step: Any, engine: Engine, question: str) -> Any:
    if isinstance(step, list):
        return _fork(engine, question, step)
    return {
        "query": lambda: _ask(engine, question),
        "dispose": engine.dispose,
        "dispose(close=False)": lambda: engine.dispose(close=False),
        "gc.collect": gc.collect,
    }[step]()


def _ask(engine: Engine, question: str) -> dict[str, Any]:
    nonce = f"n{os.getpid()}"
    try:
        with engine.connect() as connection:
            row = connection.execute(text(question), {"nonce": nonce}).one()
            # Without a server the object is the only identity that there is; its number does not keep it alive.
            this = id(connection.connection.dbapi_connection)
            return {"right": row.nonce == nonce, "backend": row.backend, "object": this}
    except Exception as problem:
        return {"error": f"{type(problem).__name__}: {problem}".splitlines()[0]}
