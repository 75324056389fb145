"""Two processes, one inherited connection, and every step forced.

A conductor opens a pooled connection and forks A and B. Each asks for its own name; the question also takes a lock that
the conductor holds, so that the server answers when the conductor lets it. Every step waits for a state that can be
observed: the server's own view, the bytes unread in the kernel, the processes' state. There is no sleep to be lucky in.

``swap``: A has asked and is stopped before it can read. B asks, and reads the first answer, A's. A reads the second,
B's. ``hang``: both have asked and are stopped; both answers lie in one kernel buffer. B goes on: its library reads both
and returns the first, A's. A goes on: the server is idle, the buffer is empty, and A waits for ever.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from lab import procfs
from lab.process import wait_until

QUESTION = {
    "postgresql": "select '{name}' as nonce, pg_advisory_xact_lock({lock})",
    "mariadb": "select '{name}' as nonce, get_lock('lab{lock}', 60)",
}
HOLD = {"postgresql": "select pg_advisory_lock({lock})", "mariadb": "select get_lock('lab{lock}', 60)"}
RELEASE = {"postgresql": "select pg_advisory_unlock({lock})", "mariadb": "select release_lock('lab{lock}')"}
VIEW = {
    "postgresql": "select state = 'active', wait_event_type = 'Lock' from pg_stat_activity where pid = {backend}",
    "mariadb": "select command = 'Query', state = 'User lock' from information_schema.processlist where id = {backend}",
}
BACKEND = {"postgresql": "select pg_backend_pid()", "mariadb": "select connection_id()"}
CONTROL = {"postgresql": "postgresql+psycopg", "mariadb": "mysql+pymysql"}
# How often the hung process is looked at before it is called hung.
LOOKS = 8


@dataclass(frozen=True)
class Player:
    """A forked process: ``tell`` makes it go on, ``hear`` reads what it has to say, if it has said something."""

    name: str
    pid: int
    tell: Callable[[], object]
    hear: Callable[[], dict[str, Any] | None]


@dataclass(frozen=True)
class Stage:
    """What the conductor can see and do: the server on its own connection, the shared socket in the kernel's tables."""

    database: str
    control: Connection
    backend: int
    port: int
    inode: int

    def ask(self, statements: dict[str, str], **names: object) -> tuple[Any, ...]:
        return tuple(self.control.execute(text(statements[self.database].format(**names))).one())

    def idle(self) -> bool:
        return not self.ask(VIEW, backend=self.backend)[0]

    def waits_for_lock(self) -> bool:
        return bool(self.ask(VIEW, backend=self.backend)[1])

    def unread_by_client(self) -> int:
        return sum(row.unread for row in procfs.tcp() if row.inode == self.inode)

    def unread_by_server(self) -> int:
        mine = {row.local for row in procfs.tcp() if row.inode == self.inode}
        return sum(row.unread for row in procfs.tcp() if row.local == self.port and row.remote in mine)


def main(scene: str, database: str, engine: dict[str, Any], pings: bool, separate: bool) -> dict[str, Any]:
    """Play *scene* and return what A and B got.

    Args:
        engine: arguments of ``create_engine``.
        pings: the driver's cursors send a message when they are made, so they are made before the scene begins.
        separate: the control: each process disposes of the inherited pool and opens a connection of its own.
    """
    shared = create_engine(**engine)
    with shared.connect() as connection:
        backend = connection.scalar(text(BACKEND[database]))
        inode = _inode_of(shared.url.port)
    a, b = (_fork(name, lock, shared, database, pings, separate) for name, lock in (("A", 1), ("B", 2)))
    ruler = create_engine(
        shared.url.set(drivername=CONTROL[database]), poolclass=NullPool, isolation_level="AUTOCOMMIT"
    )
    with ruler.connect() as control:
        stage = Stage(database, control, backend, shared.url.port, inode)
        for lock in (1, 2):
            stage.ask(HOLD, lock=lock)
        for player in (a, b):
            player.tell()
            _expect(player, f"{player.name} ready")
        play = _separately if separate else {"swap": _swap, "hang": _hang}[scene]
        try:
            return play(stage, a, b)
        finally:
            for player in (a, b):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(player.pid, signal.SIGKILL)
                os.waitpid(player.pid, 0)


def _swap(stage: Stage, a: Player, b: Player) -> dict[str, Any]:
    _both_have_asked(stage, a, b)
    stage.ask(RELEASE, lock=1)
    got_b = _expect(b, "B answered")
    os.kill(a.pid, signal.SIGCONT)
    wait_until(lambda: got_b.get("error") or stage.waits_for_lock(), "the server works on B's question")
    stage.ask(RELEASE, lock=2)
    return {"A": _expect(a, "A answered"), "B": got_b}


def _hang(stage: Stage, a: Player, b: Player) -> dict[str, Any]:
    _both_have_asked(stage, a, b)
    os.kill(b.pid, signal.SIGSTOP)
    wait_until(lambda: procfs.state(b.pid) == "T", "B stopped")
    for lock in (1, 2):
        stage.ask(RELEASE, lock=lock)
    wait_until(lambda: stage.idle() and not stage.unread_by_server(), "the server has answered both")
    both = stage.unread_by_client()
    os.kill(b.pid, signal.SIGCONT)
    got_b = _expect(b, "B answered")
    os.kill(a.pid, signal.SIGCONT)
    wait_until(lambda: procfs.state(a.pid) != "T", "A goes on")
    got_a = wait_until(lambda: a.hear() or _stuck(stage, a), "A answered or hung")
    return {
        "A": got_a,
        "B": got_b,
        "bytes in one buffer": both,
        "left unread": stage.unread_by_client(),
    }


def _separately(stage: Stage, a: Player, b: Player) -> dict[str, Any]:
    for player in (a, b):
        player.tell()
    for lock in (1, 2):
        stage.ask(RELEASE, lock=lock)
    return {"A": _expect(a, "A answered"), "B": _expect(b, "B answered")}


def _both_have_asked(stage: Stage, a: Player, b: Player) -> None:
    a.tell()
    wait_until(lambda: stage.waits_for_lock() and procfs.waits_in(a.pid), "A has asked")
    os.kill(a.pid, signal.SIGSTOP)
    wait_until(lambda: procfs.state(a.pid) == "T", "A stopped")
    b.tell()
    wait_until(lambda: stage.unread_by_server() and procfs.waits_in(b.pid), "B has asked")


def _stuck(stage: Stage, player: Player) -> dict[str, Any] | None:
    """The player waits for bytes, there are none, and the server has nothing left to send, at look after look."""
    for _ in range(LOOKS):
        if not procfs.waits_in(player.pid) or stage.unread_by_client() or not stage.idle():
            return None
    return {"hung": procfs.waits_in(player.pid)}


def _expect(player: Player, what: str) -> dict[str, Any]:
    return wait_until(player.hear, what)


def _inode_of(port: int) -> int:
    (inode,) = procfs.owners(port, [os.getpid()])
    return inode


def _fork(name: str, lock: int, engine: Engine, database: str, pings: bool, separate: bool) -> Player:
    orders, tell = os.pipe()
    hear, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        _play(name, lock, engine, database, pings, separate, orders, says)
    os.set_blocking(hear, False)

    def listen() -> dict[str, Any] | None:
        with contextlib.suppress(BlockingIOError):
            return json.loads(os.read(hear, 65536))
        return None

    return Player(name, pid, lambda: os.write(tell, b"."), listen)


def _play(name, lock, engine, database, pings, separate, orders, says) -> None:
    def say(**words: object) -> None:
        os.write(says, json.dumps(words).encode())

    try:
        os.read(orders, 1)
        if separate:
            engine.dispose(close=False)
        question = QUESTION[database].format(name=name, lock=lock)
        connection = engine.connect()
        connection.execute(text("select 1")).all()
        cursor = connection.connection.cursor() if pings else None
        say(ready=True)
        os.read(orders, 1)
        if cursor:
            cursor.execute(question)
            row = cursor.fetchone()
        else:
            row = connection.execute(text(question)).fetchone()
        say(got=row[0])
    except BaseException as problem:
        say(error=f"{type(problem).__name__}: {problem}")
    finally:
        os._exit(0)
