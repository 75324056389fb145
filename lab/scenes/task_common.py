"""What the scenes of tasks and greenlets share: an account, a question with a nonce, a view of the server's own."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, insert, make_url, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from lab.drivers import QUESTION, spoken
from lab.scenes.choreography import CONTROL

OPEN = {
    "postgresql": "select count(*) from pg_stat_activity where client_port > 0 and pid <> pg_backend_pid()",
    "mariadb": "select count(*) from information_schema.processlist where host like '%:%' and id <> connection_id()",
}


class Base(DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "task_account"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[int]


class Truth:
    """The lab's own view of the database *database*, by another driver and a connection that lasts one question.

    Args:
        arguments: those of ``create_engine`` for the engine that is watched.
    """

    def __init__(self, arguments: Mapping[str, Any], database: str) -> None:
        self.database = database
        url = make_url(arguments["url"]).set(drivername=CONTROL[database])
        self.engine: Engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    def rewind(self) -> None:
        """Two accounts, with a balance of 100 each."""
        Base.metadata.create_all(self.engine)
        with self.engine.connect() as connection:
            connection.execute(Account.__table__.delete())
            connection.execute(insert(Account), [{"id": number, "balance": 100} for number in (1, 2)])

    def balance(self, account: int = 1) -> int:
        """What is stored."""
        with self.engine.connect() as connection:
            return connection.scalar(select(Account.balance).where(Account.id == account))

    def connections(self) -> int:
        """How many clients the server has, but for this one."""
        with self.engine.connect() as connection:
            return connection.scalar(text(OPEN[self.database]))


def question(database: str) -> tuple[Any, dict[str, str]]:
    """A statement and its parameters: give this text back, and say which backend answers."""
    return text(QUESTION[database]), {"nonce": secrets.token_hex(8)}


def answer(row: Any, asked: Mapping[str, str]) -> dict[str, Any]:
    """Whether *row* is the answer to what was *asked*, and by which backend."""
    if row is None or row.nonce != asked["nonce"]:
        return {"kind": "wrong"}
    return {"kind": "right", "backend": int(row.backend)}


def error(problem: BaseException) -> dict[str, Any]:
    return {"kind": "error", "message": words(problem)}


def words(problem: BaseException) -> str:
    """The message, without what differs from run to run: addresses in memory, names of tasks, paths."""
    return same(spoken(problem))


def same(message: str) -> str:
    message = re.sub(r"0x[0-9a-f]+", "0x…", message)
    message = re.sub(r"\bfd=\d+", "fd=…", re.sub(r"Task-\d+", "Task-…", message))
    message = re.sub(r"(?<![\w.:/])/[\w./-]+/", "", message)
    return re.sub(r"127\.0\.0\.1', \d+", "127.0.0.1', …", re.sub(r"\.py:\d+", ".py:…", message))
