"""What the kernel says of a process and its sockets: the ground on which a hang is proved."""

from __future__ import annotations

import contextlib
import os
import platform
from dataclasses import dataclass
from pathlib import Path

# The calls in which a client waits for a server's answer, by machine. A poll that was stopped and continued shows as
# restart_syscall.
_WAITS = {
    "x86_64": {
        **{0: "read", 7: "poll", 23: "select", 45: "recvfrom", 47: "recvmsg"},
        **{219: "poll", 232: "epoll_wait", 270: "pselect6", 271: "ppoll"},
    },
    "aarch64": {
        **{22: "epoll_pwait", 63: "read", 72: "pselect6", 73: "ppoll"},
        **{128: "poll", 207: "recvfrom", 212: "recvmsg"},
    },
}


@dataclass(frozen=True)
class Tcp:
    """One row of ``/proc/net/tcp``: ports, the bytes that wait unread, and the socket's inode."""

    local: int
    remote: int
    unread: int
    inode: int


def state(pid: int) -> str:
    """The process state letter: ``S`` asleep, ``T`` stopped, ``R`` running ...; empty when there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def waits_in(pid: int) -> str:
    """The name of the reading system call in which *pid* sleeps; empty when it does something else."""
    if state(pid) != "S":
        return ""
    with contextlib.suppress(OSError):
        number = Path(f"/proc/{pid}/syscall").read_text().split()[0]
        return _WAITS.get(platform.machine(), {}).get(int(number), "") if number.isdigit() else ""
    return ""


def sockets(pid: int) -> dict[int, int]:
    """The open sockets of *pid*: file descriptor to inode."""
    found = {}
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    found[int(fd)] = int(target[8:-1])
    return found


def tcp() -> list[Tcp]:
    """Every TCP socket over IPv4 on this machine."""
    rows = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        local, remote = (int(words[n].rpartition(":")[2], 16) for n in (1, 2))
        rows.append(Tcp(local, remote, int(words[4].partition(":")[2], 16), int(words[9])))
    return rows


def owners(port: int, pids: list[int]) -> dict[int, list[int]]:
    """Which of *pids* hold which socket to the server at *port*: inode to process ids."""
    inodes = {row.inode for row in tcp() if row.remote == port}
    held: dict[int, list[int]] = {}
    for pid in pids:
        for inode in inodes & set(sockets(pid).values()):
            held.setdefault(inode, []).append(pid)
    return held


def memory(pid: int) -> dict[str, int]:
    """Resident and proportional set size of *pid* in bytes (``rss``, ``pss``)."""
    rows = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() if ":" in line
    )
    return {name.lower(): int(rows[name].split()[0]) * 1024 for name in ("Rss", "Pss")}


def cpu_seconds(pid: int) -> float:
    """User and system time that *pid* has used, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
