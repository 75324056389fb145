"""A view reads a page; then someone alters the table, and someone else reads it: who waits for whom.

Each step begins when the server itself says that the one before it waits, or it is over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, bindparam, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker

from lab.drivers import spoken
from lab.process import wait_until

STAGE = (
    "drop table if exists page",
    "create table page (id int primary key, title varchar(20))",
    "insert into page values (1, 'old')",
)
ALTER = "alter table page add column body varchar(20)"
SELECT = "select title from page"
WHO = {"postgresql": "select pg_backend_pid()", "mariadb": "select connection_id()", "sqlite": "select 0"}
IDLE = {
    "postgresql": "select state = 'idle in transaction' from pg_stat_activity where pid = :who",
    "mariadb": "select count(*) from information_schema.innodb_trx where trx_mysql_thread_id = :who",
}
# For each session: what it waits for, and for whom, as far as the server tells.
VIEW = {
    "postgresql": """select pid, wait_event_type || ': ' || wait_event, pg_blocking_pids(pid)
        from pg_stat_activity where pid in :who""",
    "mariadb": "select id, state, null from information_schema.processlist where id in :who",
}
WAITS = {"postgresql": "Lock: relation", "mariadb": "Waiting for table metadata lock"}
LOCK_TIMEOUT = {
    "postgresql": "set lock_timeout = '2s'",
    "mariadb": "set session lock_wait_timeout = 2",
    "sqlite": "pragma busy_timeout = 1000",
}
IDLE_TIMEOUT = {
    "postgresql": "set idle_in_transaction_session_timeout = '1s'",
    "mariadb": "set session idle_transaction_timeout = 1",
}


class Base(DeclarativeBase):
    pass


class Page(Base):
    __tablename__ = "page"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]


def main(engine: Mapping[str, Any], database: str, cases: Sequence[str]) -> dict[str, Any]:
    """Play *cases*, keys of ``ENDS`` with or without a timeout; return what became of each step, by case.

    Args:
        engine: arguments of ``create_engine``.
        database: its kind.
    """
    return {case: Scene(engine, database, case).play() for case in cases}


class Client:
    """Somebody with a connection, who says one thing in a thread."""

    def __init__(self, engine: Engine, database: str, first: str = "") -> None:
        self.connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        self.backend = self.connection.scalar(text(WHO[database]))
        self.word = self.says = ""
        if first:
            self.connection.execute(text(first))

    def begin(self, statement: str) -> None:
        threading.Thread(target=self._say, args=(statement,), daemon=True).start()

    def _say(self, statement: str) -> None:
        self.word, self.says = attempt(lambda: self.connection.execute(text(statement)).close())


class Scene:
    """One case: a reader who ends its request in some way, and the two who come after."""

    def __init__(self, arguments: Mapping[str, Any], database: str, case: str) -> None:
        self.database = database
        self.end, _, self.timeout = case.partition(", ")
        self.reader_engine = self._engine(arguments)
        self.others = create_engine(**arguments)
        self.facts: dict[str, Any] = {}
        self.says: dict[str, str] = {}

    def play(self) -> dict[str, Any]:
        with self.others.begin() as connection:
            for statement in STAGE:
                connection.execute(text(statement))
        session = scoped_session(sessionmaker(self.reader_engine))
        reader = session.scalar(text(WHO[self.database]))
        # A view keeps what it shows.
        page = session.get(Page, 1)
        ENDS[self.end](session)
        if self.database in IDLE:
            self.facts["the reader"] = self._how_idle(reader)
        alter = Client(
            self.others, self.database, LOCK_TIMEOUT[self.database] if self.timeout == "lock timeout" else ""
        )
        visitor = Client(self.others, self.database)
        clients = {"ALTER TABLE": alter, "another SELECT": visitor}
        for client, statement in ((alter, ALTER), (visitor, SELECT)):
            client.begin(statement)
            self._settled(client)
        if not self.timeout:
            self._who_waits(clients, reader)
            session.close()
        for name, client in clients.items():
            wait_until(lambda: client.word, "the end of the wait")  # noqa: B023 - called within the iteration
            self._note(name if self.timeout else f"{name} after close()", client.word, client.says)
        if self.timeout == "idle timeout":
            self._note("the reader's next read", *attempt(lambda: session.get(Page, 1, populate_existing=True)))
            session.rollback()
            self._note("after rollback()", *attempt(lambda: session.get(Page, 1, populate_existing=True)))
        del page
        session.remove()
        for client in clients.values():
            client.connection.close()
        return {"facts": self.facts, "says": self.says}

    def _note(self, name: str, word: str, says: str) -> None:
        self.facts[name] = word
        if says:
            self.says[name] = says

    def _who_waits(self, clients: Mapping[str, Client], reader: int) -> None:
        view = self._view([client.backend for client in clients.values()])
        names = {reader: "the reader"} | {client.backend: name for name, client in clients.items()}
        waiting = {pid: row for pid, row in view.items() if row[0] == WAITS[self.database]}
        self.facts["waiting"] = len(waiting)
        for name, client in clients.items():
            what, whom = waiting.get(client.backend, ("", ()))
            told = "; ".join([what, *(f"waits for {names.get(pid, pid)}" for pid in whom or ())])
            self._note(name, client.word or "blocked", told or client.says)

    def _engine(self, arguments: Mapping[str, Any]) -> Engine:
        level = {"isolation_level": "AUTOCOMMIT"} if self.end == "AUTOCOMMIT" else {}
        engine = create_engine(**arguments, **level)
        if self.database == "sqlite" and self.end == "left open after BEGIN":
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))

        @event.listens_for(engine, "connect")
        def limit(dbapi_connection, record):
            if self.timeout == "idle timeout":
                cursor = dbapi_connection.cursor()
                cursor.execute(IDLE_TIMEOUT[self.database])
                cursor.close()
                dbapi_connection.commit()

        return engine

    def _how_idle(self, backend: int) -> str:
        # InnoDB answers from a copy that it keeps for a tenth of a second after it was last asked.
        time.sleep(0.2 if self.database == "mariadb" else 0)
        with self.others.connect() as witness:
            within = witness.scalar(text(IDLE[self.database]), {"who": backend})
        return "idle in transaction" if within else "idle"

    def _view(self, backends: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        if self.database not in VIEW:
            return {}
        question = text(VIEW[self.database]).bindparams(bindparam("who", expanding=True))
        with self.others.connect() as witness:
            return {row[0]: tuple(row)[1:] for row in witness.execute(question, {"who": list(backends)})}

    def _settled(self, client: Client) -> None:
        """Wait until it is over, or the server says that it waits for a lock; where nobody can say so, until it is."""

        def settled() -> bool:
            view = self._view([client.backend]) if not client.word else {}
            return bool(client.word or (view and view[client.backend][0] == WAITS[self.database]))

        wait_until(settled, "the server says that the statement waits, or it is over")


def attempt(act: Callable[[], Any]) -> tuple[str, str]:
    """``right``, or ``error`` and what was said."""
    try:
        act()
    except Exception as problem:
        return "error", spoken(problem)
    return "right", ""


ENDS: dict[str, Callable[[scoped_session[Session]], Any]] = {
    "left open": lambda session: None,
    "left open after BEGIN": lambda session: None,
    "AUTOCOMMIT": lambda session: None,
    "commit()": lambda session: session.commit(),
    "rollback()": lambda session: session.rollback(),
    "close()": lambda session: session.close(),
    "remove()": lambda session: session.remove(),
}
