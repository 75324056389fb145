"""The bank's clients, and its books: what was acknowledged, what is stored, and whether the money is all there."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, NullPool, create_engine, insert, select

from lab.apps.bank import Account, Base, Entry
from lab.databases import Database
from lab.drivers import arguments
from lab.pages import OPEN, same
from lab.process import Kept, folder, kept, wait_until
from lab.shapes import Outcome, Tally, Trial

ACCOUNTS, INITIAL, NOWHERE = 10, 1000, 99
# The lab asks by a driver of its own, whatever the bank's is.
OWN = {"postgresql": "psycopg", "mariadb": "PyMySQL"}


@dataclass(frozen=True)
class Bank:
    """A running bank: ``port`` takes its clients."""

    process: Kept
    port: int


@dataclass(frozen=True)
class Asked:
    """A request, and what became of it. ``writes``: the books must hold it once it is acknowledged."""

    nonce: str
    outcome: Outcome
    writes: bool = False

    @property
    def acknowledged(self) -> bool:
        return self.writes and self.outcome.kind == "right"


@contextlib.contextmanager
def opened(database: Database) -> Iterator[Engine]:
    """New books, of as many accounts as there are ``ACCOUNTS``, and an engine of the lab's own to look into them."""
    own = create_engine(**arguments(OWN[database.kind], database), poolclass=NullPool)
    Base.metadata.create_all(own)
    with own.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(table.delete())
        connection.execute(insert(Account), [{"id": n + 1, "balance": INITIAL} for n in range(ACCOUNTS)])
    yield own


@contextlib.contextmanager
def served(
    engine: Mapping[str, Any],
    scope: str,
    *,
    threads: int = 0,
    waiting: int = 100,
    pool: Mapping[str, Any] | None = None,
    collect: bool = True,
) -> Iterator[Bank]:
    """A bank in a process of its own, killed with the block; the arguments are those of ``lab.apps.bank.main``."""
    told = {"engine": dict(engine), "scope": scope, "pool": dict(pool or {})}
    told |= {"threads": threads, "waiting": waiting, "collect": collect}
    with folder() as home:
        command = [sys.executable, "-m", "lab.apps.bank", json.dumps(told)]
        with kept(command, home, name="the bank") as process:
            port = process.wait_for(lambda: re.search(r"^port (\d+)$", process.text(), re.M), "its port", 60)
            yield Bank(process, int(port[1]))


class Client:
    """A connection to the bank, which counts its requests to make their nonces."""

    def __init__(self, port: int, name: str, deadline: float) -> None:
        self._name, self._count = name, 0
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=deadline)
        self._lines = self._socket.makefile("rb")

    def ask(self, verb: str, *numbers: int) -> Asked:
        """Send one request and sort its answer; no answer within the deadline is ``hung``."""
        self._count += 1
        nonce = f"{self._name}-{self._count}"
        refused = verb != "ADD" and NOWHERE in numbers
        try:
            self._socket.sendall(f"{nonce} {verb} {' '.join(map(str, numbers))}\n".encode())
            answer = self._lines.readline().decode().split(maxsplit=2)
        except TimeoutError:
            return Asked(nonce, Outcome("hung"))
        except OSError as problem:
            return Asked(nonce, Outcome("error", f"{type(problem).__name__}: {problem}"))
        return Asked(nonce, _sorted(nonce, answer, "NO" if refused else "OK"), verb != "READ" and not refused)

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def _sorted(nonce: str, answer: list[str], wanted: str) -> Outcome:
    if answer[1:2] == ["ERR"]:
        return Outcome("error", _alike(answer[2].strip()))
    if len(answer) < 3:
        return Outcome("error", " ".join(answer) or "the connection was closed")
    number = wanted == "NO" or re.fullmatch(r"-?\d+\n", answer[2])
    return Outcome("right" if answer[:2] == [nonce, wanted] and number else "wrong")


def _alike(message: str) -> str:
    """*message* without what differs from run to run: addresses, nonces, the server's own numbers."""
    return re.sub(r"\b(c|[Pp]rocess |transaction |tuple \()\d[-,\d]*", r"\1…", same(message))


def requests(client: int, count: int) -> Iterator[tuple[Any, ...]]:
    """What a client asks for: reads, payments and transfers over all accounts, and transfers to one that is not."""
    for nth in range(count):
        here, there = (client + nth) % ACCOUNTS + 1, (client * 3 + nth * 7 + 1) % ACCOUNTS + 1
        kinds = [
            ("ADD", here, nth + 1),
            ("TRANSFER", here, there if there != here else here % ACCOUNTS + 1, nth + 5),
            ("READ", here),
            ("TRANSFER", here, NOWHERE, nth + 20),
            ("READ", NOWHERE),
        ]
        yield kinds[(client + nth) % len(kinds)]


def fire(
    port: int,
    clients: int,
    count: int,
    *,
    deadline: float,
    what: Callable[[int, int], Iterable[tuple[Any, ...]]] = requests,
    asked: list[Asked] | None = None,
    before: Callable[[], Any] = list,
) -> list[Asked]:
    """Have so many *clients* send *count* requests each, all at once; one that is left without an answer gives up.

    All connections are open until the last client is done, and *before* has been called.

    Args:
        what: what a client asks for, from its number and *count*.
        asked: where to put the requests as they are answered; it is returned.
    """
    together, asked = threading.Barrier(clients), [] if asked is None else asked

    def run(number: int) -> None:
        client = stack.enter_context(contextlib.closing(Client(port, f"c{number}", deadline)))
        together.wait(60)
        for request in what(number, count):
            asked.append(client.ask(*request))
            if asked[-1].outcome.kind == "hung":
                break

    with contextlib.ExitStack() as stack:
        threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        before()
    return asked


def transactions(database: Database) -> int:
    """How many transactions the server has open that ask for nothing; MariaDB's are counted whatever they do."""
    # What MariaDB says of them is up to a tenth of a second old.
    threading.Event().wait(0.11 if database.kind == "mariadb" else 0)
    return database.ask(OPEN[database.kind])[0][0]


def books(own: Engine, asked: Iterable[Asked]) -> dict[str, Any]:
    """Compare what is stored with what was acknowledged, and the balances with the journal."""
    acknowledged = {it.nonce for it in asked if it.acknowledged}
    with own.connect() as connection:
        balances = {row.id: row.balance for row in connection.execute(select(Account.id, Account.balance))}
        entries = connection.execute(select(Entry.nonce, Entry.debit, Entry.credit, Entry.amount)).all()
    due: Counter[int] = Counter(dict.fromkeys(balances, INITIAL))
    for entry in entries:
        due[entry.credit] += entry.amount
        due[entry.debit] -= entry.amount if entry.debit is not None else 0
    stored = {entry.nonce for entry in entries}
    due = {account: due[account] for account in balances}
    found = {
        "acknowledged": len(acknowledged),
        "stored": len(stored),
        "acknowledged_lost": len(acknowledged - stored),
        "stored_unacknowledged": len(stored - acknowledged),
        "money": sum(balances.values()) - sum(due.values()),
        "accounts_off": sum(balances[account] != due[account] for account in balances),
    }
    wrong = any(found[name] for name in ("acknowledged_lost", "stored_unacknowledged", "money", "accounts_off"))
    return {**found, "books": "wrong" if wrong else "right"}


def loaded(database: Database, engine: Mapping[str, Any], scope: str, load: Mapping[str, Any], **server: Any) -> Trial:
    """One trial: open the books, serve, put the *load* of :func:`fire` on the bank, kill it, and audit."""
    seen: dict[str, Any] = {}
    with opened(database) as own:
        with served(engine, scope, **server) as bank:
            asked = fire(bank.port, **load, before=lambda: seen.update(transactions_left=transactions(database)))
        settled(database)
        return Trial(Tally.of(it.outcome for it in asked), None, {**books(own, asked), **seen})


def settled(database: Database) -> None:
    """Wait until the server has noticed that its clients are gone."""
    wait_until(lambda: not database.sessions(), "the end of the bank's connections")
