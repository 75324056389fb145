"""A parent hands something of SQLAlchemy's to a child that is not forked from it: what arrives, and what does not."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import URL, Engine, String, create_engine, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from lab.drivers import spoken


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


def main(url: str, things: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    """Return for each of *things*, under each of *methods*, the outcome and what was said, if it was an error.

    Args:
        url: of a database; what is said of a hidden password needs a user who has one.
        methods: ``spawn``, ``forkserver``, or ``executor`` for a ProcessPoolExecutor that spawns.
    """
    engine = create_engine(make_url(url))
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.merge(Thing(id=1, name="a name"))
        session.commit()
    return {thing: {method: _handed(_make(thing, engine), method) for method in methods} for thing in things}


def _make(thing: str, engine: Engine) -> Any:
    return {
        "an Engine": lambda: engine,
        "a Connection": engine.connect,
        "a Session": lambda: Session(engine),
        "a sessionmaker": lambda: sessionmaker(engine),
        "a scoped_session": lambda: scoped_session(sessionmaker(engine)),
        "str(engine.url)": lambda: str(engine.url),
        "engine.url": lambda: engine.url,
        "render_as_string(hide_password=False)": lambda: engine.url.render_as_string(hide_password=False),
        "the URL and a primary key": lambda: (engine.url, 1),
        "a loaded object": lambda: _loaded(engine),
    }[thing]()


def _loaded(engine: Engine) -> Thing:
    with Session(engine) as session:
        return session.get(Thing, 1)


def _handed(thing: Any, method: str) -> dict[str, str]:
    how = {"spawn": _by_process, "forkserver": _by_process, "executor": _by_executor}[method]
    try:
        return {"kind": how(thing, method)}
    except Exception as problem:
        return {"kind": "error", "message": spoken(problem).partition(" (Background on this")[0].strip()}


def _by_process(thing: Any, method: str) -> str:
    context = multiprocessing.get_context(method)
    hears, says = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(thing, says))
    process.start()
    says.close()
    try:
        told = hears.recv()
    finally:
        process.join()
    if isinstance(told, Exception):
        raise told
    return told


def _by_executor(thing: Any, method: str) -> str:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(use, thing).result()


def _tell(thing: Any, says: Any) -> None:
    says.send(_tried(lambda: use(thing)))


def _tried(function: Callable[[], str]) -> str | Exception:
    try:
        return function()
    except Exception as problem:
        return problem


def use(thing: Any) -> str:
    """What the child does with what it was handed."""
    if isinstance(thing, Thing):
        return "right" if thing.name == "a name" else "wrong"
    if isinstance(thing, (str, URL)):
        with create_engine(thing).connect() as connection:
            return "right" if connection.scalar(text("select 1")) == 1 else "wrong"
    if isinstance(thing, tuple):
        url, key = thing
        with Session(create_engine(url)) as session:
            return "right" if session.get(Thing, key).name == "a name" else "wrong"
    raise TypeError(f"{type(thing)} has arrived, and nobody knows what to do with it")
