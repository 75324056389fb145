"""Keep one process tree for as long as the lab lives: ``python keeper.py FOLDER SIGNAL COMMAND...``.

The lab starts every server under a keeper of its own. The keeper reads its standard input, a pipe that only the lab
holds: when the lab closes it, or dies of anything, ``kill -9`` included, the pipe ends. The keeper then sends SIGNAL
to the command, kills every process that descends from it, however it was detached, and removes FOLDER. It leaves the
same way when the command ends by itself, with the command's exit code, and keeps FOLDER for the lab to look at.

Standard library only: it runs before anything else does, in a bare interpreter.
"""

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, IPC_RMID = 1, 36, 0
GRACE = 10.0


def main() -> int:
    folder, stop_signal, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    # Whatever the command detaches becomes this process's child, so that it can be found and ended.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    user = os.environ.pop("LAB_RUN_AS", "")
    who = {"user": int(user), "group": int(user), "extra_groups": []} if user else {}
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        main = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
            **who,
        )
    except OSError as problem:
        print(f"{command[0]}: {problem.strerror}", file=sys.stderr)
        return 127
    while main.poll() is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        if 0 in ready and not os.read(0, 4096):
            break
    told = main.poll() is None
    if told:
        main.send_signal(stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            main.wait(GRACE)
    remove_shared_memory({main.pid, *end_all()}, libc)
    if told:
        shutil.rmtree(folder, ignore_errors=True)
    # As a shell puts it: 137 for one that was killed.
    return 1 if main.returncode is None else main.returncode if main.returncode >= 0 else 128 - main.returncode


def end_all() -> set[int]:
    """Kill and reap every descendant until there is none; return their process ids."""
    ended = set()
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        for pid in descendants(os.getpid()):
            ended.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not reaped:
            time.sleep(0.005)
    return ended


def remove_shared_memory(creators: set[int], libc: ctypes.CDLL) -> None:
    """Remove the System V segments of *creators*, all dead: PostgreSQL cannot do so when it is killed."""
    with contextlib.suppress(OSError), open("/proc/sysvipc/shm") as table:
        for row in table:
            _, segment, _, _, creator, _, attached, *_ = row.split()
            if attached == "0" and int(creator) in creators:
                libc.shmctl(int(segment), IPC_RMID, None)


def descendants(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                found += [int(child) for child in children.read().split()]
    return [*found, *(grandchild for child in found for grandchild in descendants(child))]


if __name__ == "__main__":
    sys.exit(main())
