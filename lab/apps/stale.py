"""The application of the source document: one ``scoped_session`` for the whole module, which nobody ends.

What a request does with it stands in its query: with ``held`` something keeps the object that was read, as a menu or a
cache of the application's does; with ``remove`` the Session is removed when the request ends, which is the remedy.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from urllib.parse import parse_qs

from sqlalchemy import create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.process import wait_until

settings = json.loads(os.environ["LAB_APP"])
home = Path(settings["home"])
engine = create_engine(**settings["engine"])
Session = scoped_session(sessionmaker(engine))
menu: dict[int, Page] = {}

if settings["sqlite_begins"]:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#enabling-non-legacy-sqlite-transactional-modes

    @event.listens_for(engine, "connect")
    def leave_transactions_alone(dbapi_connection, record):
        dbapi_connection.isolation_level = None
        dbapi_connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection):
        connection.exec_driver_sql("BEGIN")


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


def meet(name: str, count: int) -> None:
    """Wait until all *count* interpreters hold a request, so that each has taken exactly one."""
    register = home / name
    with register.open("a") as lines:
        lines.write(f"{os.getpid()} {threading.get_ident()}\n")
    wait_until(lambda: register.read_text().count("\n") >= count, "a request in each interpreter", 80)


def read(held: bool) -> dict[str, str]:
    """What the Session says: of the object, and of a plain SELECT on the same connection."""
    page = Session.scalars(select(Page)).one()
    if held:
        menu[threading.get_ident()] = page
    return {"orm": page.body, "raw": Session.scalar(text("select body from page"))}


def write(body: str) -> dict[str, str]:
    page = Session.scalars(select(Page)).one()
    page.body = body
    Session.commit()
    return {}


def forget() -> dict[str, str]:
    """As if this interpreter had just been started."""
    menu.pop(threading.get_ident(), None)
    Session.remove()
    return {}


def application(environ, start_response):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if "meet" in query:
        meet(query["meet"], int(query["of"]))
    try:
        if environ["PATH_INFO"] == "/write":
            body = write(query["body"])
        else:
            body = forget() if environ["PATH_INFO"] == "/forget" else read("held" in query)
        status = "200 OK"
    except Exception as problem:
        status, body = "500 Internal Server Error", {"error": spoken(problem)}
    finally:
        if "remove" in query:
            Session.remove()
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps({**body, "pid": os.getpid(), "thread": threading.get_ident()}).encode()]
