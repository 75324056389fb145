"""One forked child asks one question on an inherited connection: what TLS makes of it (U4)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lab import trace
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import folder, play
from lab.shapes import Arm, Check, Outcome, Setup, Survival, Tally, Trial
from lab.trials import NETWORK_DRIVERS

SCENE = "lab.scenes.tls"
# A record's header; the record's type and the authentication tag, which TLS 1.3 puts behind the plaintext.
HEADER, TRAILER = 5, 1 + 16
# One for each database comes first. mysql-connector writes a ping first, so that its first record holds no question.
ASK_AT_ONCE = ("psycopg2", "PyMySQL", "psycopg", "pg8000", "mysqlclient")


@experiment("uwsgi-tls-makes-it-loud", seeds=["U4"], uses=["lab/scenes/tls.py"])
def loud(effort: Effort) -> Iterator[Arm]:
    shared = [Check("child", "==", "right"), Check("one_connection", "==", True)]
    fails = [Check("error", "==", 1), Check("parent", "==", "dead"), *shared]
    silent = [Check("right", "==", 1), Check("parent", "==", "alive"), *shared]
    with _databases() as database:
        for tls, role, checks in ((True, "hazard", fails), (False, "control", silent)):
            for name in NETWORK_DRIVERS:
                it = Setup(driver(name).database, name, tls, server="os.fork", workers=1, requests=1)
                label = f"{name}, {'TLS' if tls else 'plain'}"
                yield arm(label, role, it, checks, lambda it=it: _asked(it, database(it.database), effort.pick(5, 1)))


@experiment("uwsgi-tls-reuses-nonce", seeds=["U4"], uses=["lab/scenes/tls.py", "lab/trace.py"])
def reuses_nonce(effort: Effort) -> Iterator[Arm]:
    arms = (("hazard", "none", True), ("control", "a connection each", False))
    with _databases() as database:
        for role, remedy, reused in arms:
            for name in ASK_AT_ONCE[: effort.pick(5, 2)]:
                it = Setup(driver(name).database, name, True, "os.fork", remedy, workers=1, requests=1)
                checks = [Check("reused", "==", reused), Check("tls", "==", "TLSv1.3"), Check("bytes", ">=", 80)]
                trials = effort.pick(5, 1)
                yield arm(
                    f"{name}, {remedy}",
                    role,
                    it,
                    checks,
                    lambda it=it, n=trials: _xored(it, database(it.database), n),
                )


@contextlib.contextmanager
def _databases() -> Iterator[Callable[[str], Database]]:
    """A function that starts each kind of database when it is first asked for. They take TLS and plain clients."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(start(kind, tls=True)))


def _asked(it: Setup, database: Database, trials: int) -> Iterator[Trial]:
    for _ in range(trials):
        got = play(SCENE, engine=arguments(it.driver, database, tls=it.tls), database=it.database, child_nonce="child")
        yield _trial(got)


def _xored(it: Setup, database: Database, trials: int) -> Iterator[Trial]:
    """Compute the parent's plaintext from two encrypted records and the child's plaintext, without any key.

    Facts: ``reused``, whether what came out holds the parent's secret; and, of the first trial, what came out.
    """
    known = _childs_plaintext(it.driver, database)
    for trial in range(trials):
        got, *written = _traced(it.driver, database, tls=True, separate=it.remedy != "none")
        childs, parents = map(_first_record, written)
        recovered = bytes(a ^ b ^ c for a, b, c in zip(childs, parents, known, strict=False))
        reused = got["secret"].encode() in recovered
        facts = {"reused": reused, "bytes": len(recovered), "cipher": got["cipher"]}
        if trial == 0:
            facts["recovered"] = trace.meaning(recovered, question=True)
            facts |= {"childs_record": _beginning(childs), "parents_record": _beginning(parents)}
        yield _trial(got, **facts)


@functools.cache
def _childs_plaintext(name: str, database: Database) -> bytes:
    """What the child writes where there is no TLS."""
    return _traced(name, database, tls=False, separate=False)[1]


def _traced(name: str, database: Database, *, tls: bool, separate: bool) -> tuple[dict[str, Any], bytes, bytes]:
    """Play the scene under strace; what it returned, and what child and parent wrote to the database after the fork."""
    # No BEGIN before the question, which would be the first record.
    engine = {**arguments(name, database, tls=tls), "isolation_level": "AUTOCOMMIT"}
    with folder() as home:
        path = home / "trace"
        nonce = "known to all " * 6
        under = trace.strace(path)
        got = play(SCENE, under=under, engine=engine, database=database.kind, child_nonce=nonce, separate=separate)
        calls = [c for c in trace.parse(path.read_text()) if c.remote == database.port and c.call in trace.WRITES]
    childs = [call for call in calls if call.pid == got["pids"]["child"]]
    fork = childs[0].t
    parents = [call for call in calls if call.pid == got["pids"]["parent"] and call.t > fork]
    return got, _bytes(childs), _bytes(parents)


def _bytes(calls: Iterable[trace.Call]) -> bytes:
    return b"".join(call.data for call in calls)


def _first_record(written: bytes) -> bytes:
    """The ciphertext of the first TLS record, as long as its plaintext."""
    return written[HEADER : HEADER + int.from_bytes(written[3:HEADER], "big") - TRAILER]


def _beginning(record: bytes) -> str:
    return f"{record[:16].hex(' ')} ..."


def _trial(got: dict[str, Any], **facts: object) -> Trial:
    parent = Outcome(**got["parent"]["outcome"])
    survival = Survival("dead", parent.message) if parent.kind == "error" else Survival("alive")
    facts["child"] = got["child"]["outcome"]["kind"]
    facts["one_connection"] = got["child"]["backend"] == got["backend"]
    return Trial(Tally.of([parent]), survival, {**facts, "tls": got["tls"]})
