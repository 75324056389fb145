"""What is left on the machine of something that lived in one folder."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.process import wait_until


@contextlib.contextmanager
def somewhere() -> Iterator[Path]:
    """A temporary folder for the lab to live in, so that what is the lab's can be told from everything else.

    Fails if shared memory is left to nobody, as PostgreSQL leaves it when it cannot clean up.
    """
    before = orphans()
    # Not pytest's own: servers that refuse to be root have to get there.
    place = Path(tempfile.mkdtemp(prefix="place-"))
    place.chmod(0o755)
    yield place
    wait_until(lambda: not processes(place), f"the end of what lives in {place}")
    shutil.rmtree(place)
    wait_until(lambda: orphans() <= before, "the removal of shared memory", 5)


def nothing_is_left(place: Path) -> None:
    """Fail if something of the lab is left in *place*, or a process of it lives."""
    wait_until(lambda: not processes(place), f"the end of {processes(place)}")
    assert [] == [path.name for path in place.rglob("lab-*")]


def processes(place: Path) -> dict[int, str]:
    """Command lines of the processes that have to do with *place*, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = [(process / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ")]
            # PostgreSQL writes over both of them; without a folder and a log it cannot be.
            links = [os.readlink(link) for link in (*process.glob("fd/*"), process / "cwd") if link.is_symlink()]
            if any(str(place) in text for text in (*links, *words)):
                found[int(process.name)] = words[0].replace("\0", " ")
    return found


def orphans() -> set[str]:
    """The shared memory, System V's and PostgreSQL's, that no process uses."""
    files = set(map(str, Path("/dev/shm").glob("PostgreSQL.*")))
    for process in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            maps = process.read_text() if files else ""
            files = {file for file in files if file not in maps}
    head, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    return files | {row[head.index("shmid")] for row in rows if row[head.index("nattch")] == "0"}
