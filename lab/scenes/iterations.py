"""A program forks a child that rebinds the global engine and session, and then reads what the child wrote (F1 to F5).

The mechanism is that of https://stackoverflow.com/questions/41279157, in code of our own. The first program keeps its
engine and session in globals, the second in variables of the function that forks.
"""

from __future__ import annotations

import contextlib
import gc
import json
import multiprocessing
import os
import sys
import weakref
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from lab import procfs
from lab.drivers import spoken

engine: Engine
session: Session
settings: dict[str, Any] = {}
observed: list[Any] = []


class Base(DeclarativeBase):
    pass


class Dummy(Base):
    __tablename__ = "dummy"
    id: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[int]


def main(
    engine: dict[str, Any],
    iterations: int,
    program: str = "global",
    before: Sequence[str] = (),
    child: Sequence[str] = ("init", "work"),
    leave: str = "",
    look: bool = False,
    collector: str | Sequence[int] = "on",
) -> dict[str, Any]:
    """Run the program until it fails, at most *iterations* times; return a row for each time, and the process ids.

    Args:
        engine: arguments of ``create_engine``.
        program: "global" or "local".
        before: what the parent does before it forks: ``session.close``, ``engine.dispose``.
        child: what the child does: ``init`` rebinds the globals, ``work`` changes the row; ``gc.collect``,
            ``dispose(close=False)``, ``keep a reference``.
        leave: how the child ends: by multiprocessing, or, without it, by ``sys.exit`` or ``os._exit``.
        look: whether the child looks for the sockets and sessions that it has inherited.
        collector: "on", "off", or thresholds.
    """
    settings.update(engine)
    if collector == "off":
        gc.disable()
    elif collector != "on":
        gc.set_threshold(*collector)
    run = {"global": first_program, "local": second_program}[program]
    rows = []
    for _ in range(iterations):
        rows.append(run(before, child, leave, look))
        if rows[-1]["outcome"]["kind"] != "right":
            break
    return {"parent": os.getpid(), "rows": rows}


def init() -> None:
    global engine, session
    engine = create_engine(**settings)
    Base.metadata.create_all(engine)
    session = Session(engine)


def cleanup() -> None:
    session.close()
    engine.dispose()


def first_program(before: Sequence[str], child: Sequence[str], leave: str, look: bool) -> dict[str, Any]:
    """Fork with the session in a global, which the child's ``init`` rebinds."""
    init()
    try:
        number = _add(session)
        if "session.close" in before:
            session.close()
        if "engine.dispose" in before:
            engine.dispose()
        told = _fork(number, child, leave, look)
        return {**told, "outcome": _read(session, number)}
    finally:
        with contextlib.suppress(Exception):
            cleanup()


def second_program(before: Sequence[str], child: Sequence[str], leave: str, look: bool) -> dict[str, Any]:
    """Fork with the session in a variable of this function."""
    engine = create_engine(**settings)
    Base.metadata.create_all(engine)
    session = Session(engine)
    try:
        number = _add(session)
        told = _fork(number, child, leave, look)
        return {**told, "outcome": _read(session, number), "session": id(session)}
    finally:
        with contextlib.suppress(Exception):
            session.close()
            engine.dispose()


def target(number: int, steps: Sequence[str], look: bool, report: int) -> None:
    """What the child does."""
    _watch(report)
    _tell(report, counts=gc.get_count(), generation=_generation())
    if look:
        _tell(report, **_look())
    for step in steps:
        if step == "keep a reference":
            kept = session  # noqa: F841
        else:
            {
                "init": init,
                "work": lambda: _work(number),
                "gc.collect": gc.collect,
                "dispose(close=False)": lambda: engine.dispose(close=False),
            }[step]()


def _add(session: Session) -> int:
    dummy = Dummy(value=1)
    session.add(dummy)
    session.commit()
    # Reads what the commit has expired: the session is in a transaction again.
    return dummy.id


def _work(number: int) -> None:
    session.get(Dummy, number).value += 1
    session.commit()
    cleanup()


def _read(session: Session, number: int) -> dict[str, str]:
    try:
        value = session.scalar(select(Dummy.value).where(Dummy.id == number))
    except Exception as problem:
        return {"kind": "error", "message": spoken(problem)}
    return {"kind": "right" if value == 2 else "wrong"}


def _fork(number: int, steps: Sequence[str], leave: str, look: bool) -> dict[str, Any]:
    reader, writer = os.pipe()
    if leave:
        pid = os.fork()
        if not pid:
            try:
                target(number, steps, look, writer)
            except BaseException:
                os._exit(1)
            {"sys.exit": sys.exit, "os._exit": os._exit}[leave](0)
        os.close(writer)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    else:
        process = multiprocessing.get_context("fork").Process(target=target, args=(number, steps, look, writer))
        process.start()
        os.close(writer)
        process.join()
        pid, code = process.pid, process.exitcode
    if code:
        raise RuntimeError(f"the child ended with exit code {code}")
    with open(reader) as report:
        told: dict[str, Any] = {"child": pid}
        for line in report:
            told |= json.loads(line)
        return told


def _tell(report: int, **facts: Any) -> None:
    # At once, each a line of its own: what comes next may happen when the child's own code has ended.
    os.write(report, json.dumps(facts).encode() + b"\n")


def _watch(report: int) -> None:
    """Tell what frees the inherited session: a collection, and of which generation, or its reference count."""
    collecting: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collecting.append(info["generation"])
        else:
            collecting.pop()

    def freed(_: object) -> None:
        _tell(report, reaped_by=f"generation {collecting[-1]}" if collecting else "reference count")

    gc.callbacks.append(note)
    if "session" in globals():
        observed.append(weakref.ref(session, freed))


def _generation() -> int | None:
    """The collector's generation that the inherited global session has reached; None where there is none."""
    inherited = globals().get("session")
    found = (n for n in range(3) if any(one is inherited for one in gc.get_objects(n)))
    return next(found) if inherited else None


def _look() -> dict[str, Any]:
    held = [thing for thing in gc.get_objects() if isinstance(thing, Session) and thing.in_transaction()]
    port = settings["url"].rpartition(":")[2].partition("/")[0]
    owners = procfs.owners(int(port), [os.getpid(), os.getppid()])
    return {"sessions": [id(one) for one in held], "shared_sockets": sum(len(pids) == 2 for pids in owners.values())}
