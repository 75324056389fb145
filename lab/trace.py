"""What strace saw: which process wrote and read which bytes on which socket, and what those bytes mean.

:func:`strace` is the command to run something under, :func:`parse` reads what it wrote, :func:`events` turns that into
the events of a swim lane (:mod:`lab.swimlane`). Bytes are taken for PostgreSQL's or MySQL's protocol when they parse as
such, for a TLS record when they look like one, else for whatever text is in them; nothing has to be told the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import components

WRITES = ("sendto", "sendmsg", "write", "writev")
READS = ("recvfrom", "recvmsg", "read", "readv")
WAITS = ("poll", "ppoll", "select", "pselect6")

_LONGEST = 4096
_LINE = re.compile(r"(\d+) +(\d+\.\d+) (.*)")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_DONE = re.compile(r"\) += (-?\d+)(?: (E[A-Z0-9]+))?")
_TCP = re.compile(r"(\d+)<TCP:\[[\d.]+:(\d+)->[\d.]+:(\d+)\]>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)')
_UNFINISHED = " <unfinished ...>"


@dataclass(frozen=True)
class Call:
    """One system call on a TCP connection.

    Attributes:
        t: when it began, in seconds since the epoch; ``done``: when it ended, None if it never did. They are equal when
            strace saw nothing happen in between.
        local: the port at this end, which tells connections apart; ``remote``: the port at the other end.
        data: what was written or read, at most the first 4096 bytes.
        result: what the call returned, None if it never did; ``error``: the name of its error, if it failed.
    """

    t: float
    done: float | None
    pid: int
    call: str
    fd: int
    local: int
    remote: int
    data: bytes = b""
    result: int | None = None
    error: str = ""


def strace(path: Path) -> list[str | Path]:
    """The command that writes to *path* what a command appended to it, and every process that it forks, says and hears.

    Raises:
        components.Missing: there is no strace.
    """
    calls = ",".join((*WRITES, *READS, *WAITS))
    show = ["-ttt", "-yy", "-xx", "-s", str(_LONGEST), "-e", f"trace={calls}", "-e", "signal=none"]
    return [components.need("strace"), "-f", "--seccomp-bpf", *show, "-o", path]


def parse(trace: str) -> list[Call]:
    """The calls on TCP connections in a *trace* by :func:`strace`, in the order in which they began.

    A call that strace wrote in two halves (``unfinished``, ``resumed``) is put together again. One that never ended,
    because its process was killed or the trace breaks off, has no ``done`` and no ``result``.
    """
    calls: list[Call] = []
    halves: dict[int, tuple[int, float, str]] = {}
    for line in trace.splitlines():
        if not (found := _LINE.match(line)):
            continue
        pid, t, rest = int(found[1]), float(found[2]), found[3]
        if resumed := _RESUMED.match(rest):
            if pid in halves:
                place, began, head = halves.pop(pid)
                calls[place] = _call(pid, began, t, head + rest[resumed.end() :])
        elif _TCP.search(rest):
            if rest.endswith(_UNFINISHED):
                halves[pid] = (len(calls), t, rest.removesuffix(_UNFINISHED))
            calls.append(_call(pid, t, t, rest))
    return calls


def askers(
    calls: Iterable[Call], port: int, names: Mapping[int, str], nonce: re.Pattern[bytes]
) -> Callable[[bytes], list[str]]:
    """A function that says, of any bytes, who put the questions whose nonces they carry.

    A nonce, which *nonce* matches, belongs to the process that first wrote it to the server at *port*.
    """
    owner: dict[bytes, str] = {}
    for call in calls:
        if call.remote == port and call.call in WRITES and call.pid in names:
            for found in nonce.findall(call.data):
                owner.setdefault(found, names[call.pid])
    return lambda data: list(dict.fromkeys(owner[found] for found in nonce.findall(data) if found in owner))


def events(
    calls: Iterable[Call], port: int, names: Mapping[int, str], owners: Callable[[bytes], Sequence[str]]
) -> list[dict[str, Any]]:
    """The events of a swim lane: who wrote and read what on the connections to the server at *port*.

    A write stands where it began, and is its writer's own; a read stands where it ended. A process whose last call
    waits for bytes that did not come has a final ``sleeps``. Times are seconds since the first event.

    Args:
        names: lanes by process id; other processes are left out.
        owners: whose answers some bytes carry, as :func:`askers` tells.
    """
    known = [call for call in calls if call.remote == port and call.pid in names]
    told = sorted((_moment(call), n) for n, call in enumerate(known) if _tells(call))
    start = told[0][0] if told else 0.0
    lanes = [_event(known[n], t - start, names, owners) for t, n in told]
    last = {(call.pid, call.local): call for call in known}
    end = max((max(call.t, call.done or 0.0) for call in known), default=0.0) - start
    asleep = [call for call in last.values() if _waits(call)]
    return lanes + [
        {**_event(call, end, names, owners), "op": "sleeps", "text": f"in {call.call}, for bytes that never come"}
        for call in asleep
    ]


def meaning(data: bytes, *, question: bool) -> str:
    """What *data* say in a few words, when they are a client's *question* or else a server's answer."""
    if data[:2] in (b"\x14\x03", b"\x15\x03", b"\x16\x03", b"\x17\x03"):
        return "TLS record"
    if messages := _postgresql(data):
        mean = _postgresql_question if question else _postgresql_answer
        return "; ".join(filter(None, (mean(kind, body) for kind, body in messages)))
    if packets := _mysql(data):
        return "; ".join(_mysql_question(packets) if question else _mysql_answer(packets))
    return printable(data)


def printable(data: bytes) -> str:
    """The text in *data*, runs of other bytes as one space."""
    return re.sub(r"[^ -~]+", " ", data.decode("latin-1")).strip()


def _call(pid: int, t: float, done: float, text: str) -> Call:
    name, _, arguments = text.partition("(")
    fd, local, remote = map(int, _TCP.search(arguments).groups())
    ended = _DONE.search(arguments)
    strings = _STRING.findall(arguments)
    # Messages carry all their pieces, other calls one buffer; what follows it is an address.
    pieces = strings if name in ("sendmsg", "recvmsg", "writev", "readv") else strings[:1]
    data = b"".join(bytes.fromhex(piece.replace("\\x", "")) for piece in pieces)
    if not ended:
        return Call(t, None, pid, name, fd, local, remote, data)
    return Call(t, done, pid, name, fd, local, remote, data, int(ended[1]), ended[2] or "")


def _tells(call: Call) -> bool:
    moved = call.call in WRITES or (call.call in READS and call.done is not None)
    return moved and call.error != "EAGAIN"


def _waits(call: Call) -> bool:
    # psycopg never sleeps for longer than a tenth of a second, and then asks again.
    timed_out = call.call in WAITS and call.result == 0
    return call.call not in WRITES and (call.done is None or timed_out)


def _moment(call: Call) -> float:
    return call.t if call.call in WRITES else call.done


def _event(call: Call, t: float, names: Mapping[int, str], owners: Callable[[bytes], Sequence[str]]) -> dict[str, Any]:
    writes = call.call in WRITES
    text = call.error or meaning(call.data, question=writes) or ("end of file" if call.result == 0 else "")
    return {
        "t": round(t, 6),
        "who": names[call.pid],
        "op": "writes" if writes else "reads",
        "owner": names[call.pid] if writes else "+".join(owners(call.data)),
        "text": text,
        "bytes": max(call.result or 0, 0) if call.done else len(call.data),
        "socket": f"port {call.local}",
    }


def _postgresql(data: bytes) -> list[tuple[str, bytes]]:
    """The messages in *data*: type and body; none when it is not made of messages from end to end."""
    found, at = [], 0
    while at + 5 <= len(data):
        kind, size = chr(data[at]), int.from_bytes(data[at + 1 : at + 5], "big")
        if not kind.isalnum() or size < 4:
            return []
        found.append((kind, data[at + 5 : at + 1 + size]))
        at += 1 + size
    return found if at == len(data) else []


def _postgresql_question(kind: str, body: bytes) -> str:
    if kind == "X":
        return "goodbye"
    return printable(body) if kind in "QPB" else ""


def _postgresql_answer(kind: str, body: bytes) -> str:
    if kind == "D":
        return f"row {', '.join(_postgresql_row(body))}"
    if kind == "C" and not body.startswith(b"SELECT"):
        return printable(body)
    if kind in "EN":
        return printable(body.partition(b"\0M")[2].partition(b"\0")[0])
    return ""


def _postgresql_row(body: bytes) -> Iterator[str]:
    at = 2
    while at + 4 <= len(body):
        size = max(int.from_bytes(body[at : at + 4], "big", signed=True), 0)
        yield printable(body[at + 4 : at + 4 + size])
        at += 4 + size


def _mysql(data: bytes) -> list[tuple[int, bytes]]:
    """The packets in *data*: sequence number and body; none when it is not made of packets from end to end."""
    found, at = [], 0
    while at + 5 <= len(data):
        size = int.from_bytes(data[at : at + 3], "little")
        if not size:
            return []
        found.append((data[at + 3], data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found if at == len(data) else []


def _mysql_question(packets: list[tuple[int, bytes]]) -> Iterator[str]:
    for _, body in packets:
        yield {1: "goodbye", 14: "ping"}.get(body[0]) or printable(body[1:])


def _mysql_answer(packets: list[tuple[int, bytes]]) -> Iterator[str]:
    columns = 0
    for number, body in packets:
        if number == 1 and body[0] == 0:
            yield "OK"
        elif body[0] == 255:
            yield printable(body[9:])
        elif number == 1:
            columns = body[0]
        elif number > 1 + columns and body[0] != 254:
            yield f"row {', '.join(_mysql_row(body))}"


def _mysql_row(body: bytes) -> Iterator[str]:
    at = 0
    while at < len(body):
        size = 0 if body[at] == 251 else body[at]
        yield printable(body[at + 1 : at + 1 + size])
        at += 1 + size
