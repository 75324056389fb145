"""What strace wrote, read back: calls put together, bytes understood, owners found."""

import re
import subprocess
import sys

import pytest

from lab import components, trace

NONCE = re.compile(rb"n\d{6}")
PORT = 5999
NAMES = {11: "worker 1", 12: "worker 2"}


def quoted(data: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in data) + '"'


def on(port: int, fd: int = 12) -> str:
    return f"{fd}<TCP:[127.0.0.1:{port}->127.0.0.1:{PORT}]>"


def postgresql(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def query(nonce: str) -> bytes:
    return postgresql(b"Q", f"select '{nonce}'\0".encode())


def row(nonce: str) -> bytes:
    values = b"\0\1" + len(nonce).to_bytes(4, "big") + nonce.encode()
    end = postgresql(b"C", b"SELECT 1\0") + postgresql(b"Z", b"I")
    return postgresql(b"T", b"\0\0") + postgresql(b"D", values) + end


def events(lines: list[str]) -> list[tuple[str, str, str, str]]:
    calls = trace.parse("\n".join(lines))
    told = trace.events(calls, PORT, NAMES, trace.askers(calls, PORT, NAMES, NONCE))
    return [(event["who"], event["op"], event["owner"], event["text"]) for event in told]


def test_a_call_on_one_line():
    """Process, time, socket, bytes and result are read off."""
    line = f"11  1700000000.250000 sendto({on(40001)}, {quoted(b'ping')}, 4, MSG_NOSIGNAL, NULL, 0) = 4"

    expected = trace.Call(1700000000.25, 1700000000.25, 11, "sendto", 12, 40001, PORT, b"ping", 4)
    assert [expected] == trace.parse(line)


def test_a_call_in_two_halves():
    """What strace calls unfinished and resumed is one call, with the times of both halves."""
    lines = [
        f"11  1.000000 recvfrom({on(40001)},  <unfinished ...>",
        f"12  1.500000 sendto({on(40001)}, {quoted(b'other')}, 5, 0, NULL, 0) = 5",
        f"11  2.000000 <... recvfrom resumed>{quoted(b'late')}, 8192, 0, NULL, NULL) = 4",
    ]

    late, other = trace.parse("\n".join(lines))

    assert (1.0, 2.0, b"late", 4) == (late.t, late.done, late.data, late.result)
    assert b"other" == other.data


@pytest.mark.parametrize(
    "ending",
    [
        [],
        ["11  2.000000 <... poll resumed> <unfinished ...>) = ?", "11  2.000000 +++ killed by SIGKILL +++"],
        ["11  2.000000 +++ killed by SIGKILL +++"],
    ],
    ids=["nothing follows", "killed", "killed without a word"],
)
def test_a_call_that_never_ended(ending):
    """A process that was killed while it waited has no result, whatever strace says at its end."""
    line = f"11  1.000000 poll([{{fd={on(40001)}, events=POLLIN|POLLERR}}], 1, -1 <unfinished ...>"

    (call,) = trace.parse("\n".join([line, *ending]))

    assert (None, None) == (call.done, call.result)


@pytest.mark.parametrize("end", [8, 30, 61, 75, 90, 97], ids=str)
def test_a_trace_that_breaks_off(end):
    """A last line that was cut anywhere is no error, and never counts as a call that ended."""
    line = f"11  1.000000 recvfrom({on(40001)}, {quoted(b'answer')}, 8192, 0, NULL, NULL) = 6"

    assert [] == [call for call in trace.parse(line[:end]) if call.done and call.result is not None]


def test_data_longer_than_strace_shows():
    """The bytes that strace left out are missing from the data but counted in the result."""
    line = f"11  1.000000 read({on(40001)}, {quoted(b'abc')}..., 65536) = 5000"

    (call,) = trace.parse(line)

    assert (b"abc", 5000) == (call.data, call.result)


def test_a_message_in_pieces():
    """The pieces of sendmsg are one text."""
    pieces = f"[{{iov_base={quoted(b'sel')}, iov_len=3}}, {{iov_base={quoted(b'ect')}, iov_len=3}}]"
    line = f"11  1.000000 sendmsg({on(40001)}, {{msg_name=NULL, msg_namelen=0, msg_iov={pieces}, msg_iovlen=2}}, 0) = 6"

    assert [b"select"] == [call.data for call in trace.parse(line)]


def test_an_error_has_its_name():
    """A connection that the server closed shows as the error that the process got."""
    line = f"11  1.000000 recvfrom({on(40001)}, 0x7f00, 4, 0, NULL, NULL) = -1 ECONNRESET (Connection reset by peer)"

    assert [(-1, "ECONNRESET")] == [(call.result, call.error) for call in trace.parse(line)]


def test_files_and_pipes_are_left_out():
    """Only calls on TCP connections are kept."""
    lines = [
        '11  1.000000 read(3<\\x2f\\x65\\x74\\x63>, "\\x00", 512) = 1',
        '11  1.100000 write(7<UNIX-STREAM:[123]>, "\\x00", 1) = 1',
        "11  1.200000 +++ exited with 0 +++",
    ]

    assert [] == trace.parse("\n".join(lines))


def test_an_answer_belongs_to_who_asked():
    """A row that carries another worker's nonce is that worker's, whoever reads it."""
    lines = [
        f"11  1.000000 sendto({on(40001)}, {quoted(query('n000001'))}, 21, 0, NULL, 0) = 21",
        f"12  2.000000 sendto({on(40001)}, {quoted(query('n000002'))}, 21, 0, NULL, 0) = 21",
        f"12  3.000000 recvfrom({on(40001)}, {quoted(row('n000001') + row('n000002'))}, 16384, 0, NULL, NULL) = 92",
        f"11  4.000000 poll([{{fd={on(40001)}, events=POLLIN|POLLERR}}], 1, -1 <unfinished ...>",
        f"13  4.500000 sendto({on(40002)}, {quoted(query('n000003'))}, 21, 0, NULL, 0) = 21",
    ]

    assert [
        ("worker 1", "writes", "worker 1", "select 'n000001'"),
        ("worker 2", "writes", "worker 2", "select 'n000002'"),
        ("worker 2", "reads", "worker 1+worker 2", "row n000001; row n000002"),
        ("worker 1", "sleeps", "", "in poll, for bytes that never come"),
    ] == events(lines)


def test_a_read_stands_where_it_ended():
    """A process that waited in the read itself is drawn after the question that was answered to it."""
    lines = [
        f"11  1.000000 recvfrom({on(40001)},  <unfinished ...>",
        f"12  2.000000 sendto({on(40001)}, {quoted(query('n000002'))}, 21, 0, NULL, 0) = 21",
        f"11  3.000000 <... recvfrom resumed>{quoted(row('n000002'))}, 8192, 0, NULL, NULL) = 46",
    ]

    assert [("worker 2", "writes"), ("worker 1", "reads")] == [event[:2] for event in events(lines)]


def test_who_asks_again_and_again_sleeps_too():
    """A driver that waits in short steps waits all the same."""
    lines = [
        f"11  1.000000 sendto({on(40001)}, {quoted(query('n000001'))}, 21, 0, NULL, 0) = 21",
        f"11  2.000000 poll([{{fd={on(40001)}, events=POLLIN|POLLERR}}], 1, 100) = 0 (Timeout)",
    ]

    assert ["writes", "sleeps"] == [event[1] for event in events(lines)]


@pytest.mark.parametrize(
    ("data", "question", "expected"),
    [
        (postgresql(b"Q", b"ROLLBACK\0"), True, "ROLLBACK"),
        (postgresql(b"X", b""), True, "goodbye"),
        (postgresql(b"C", b"ROLLBACK\0") + postgresql(b"Z", b"I"), False, "ROLLBACK"),
        (postgresql(b"N", b"SWARNING\0C25001\0Mno transaction\0\0"), False, "no transaction"),
        (postgresql(b"P", b"\0select $1\0\0\0") + postgresql(b"S", b""), True, "select $1"),
        (b"\x09\0\0\0\x03ROLLBACK", True, "ROLLBACK"),
        (b"\x01\0\0\0\x01", True, "goodbye"),
        (b"\x07\0\0\1\0\0\0\2\0\0\0", False, "OK"),
        (b"\x1d\0\0\1\xff\xd6\x07#08S01Lost connection, sir", False, "Lost connection, sir"),
        (b"\1\0\0\1\1\4\0\0\2\3def\5\0\0\3\xfe\0\0\2\0\6\0\0\4\5hello\5\0\0\5\xfe\0\0\2\0", False, "row hello"),
        (b"\x17\x03\x03\0\x20" + bytes(32), True, "TLS record"),
        (b"row n000001 and the end is miss", False, "row n000001 and the end is miss"),
    ],
)
def test_meaning(data, question, expected):
    """Bytes of either protocol are told in the words that they carry."""
    assert expected == trace.meaning(data, question=question)


def test_a_real_trace(tmp_path):
    """Two processes on one socket are told apart, byte by byte."""
    script = (
        "import os, socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(server.getsockname())\n"
        "other, _ = server.accept()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    client.sendall(b'asked by n000002'); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(server.getsockname()[1], os.getpid(), child)\n"
        "other.sendall(other.recv(100))\n"
        "client.recv(100)\n"
    )
    path = tmp_path / "trace"
    components.need("strace")
    command = [*trace.strace(path), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    port, parent, child = map(int, done.stdout.split())
    calls = trace.parse(path.read_text())
    names = {parent: "parent", child: "child"}
    told = trace.events(calls, port, names, trace.askers(calls, port, names, NONCE))

    assert [("child", "writes", "child", 16), ("parent", "reads", "child", 16)] == [
        (event["who"], event["op"], event["owner"], event["bytes"]) for event in told
    ]
    assert {"asked by n000002"} == {event["text"] for event in told}
