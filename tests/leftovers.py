"""What is left on the machine of something that lived in one folder."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from lab.process import wait_until


@contextlib.contextmanager
def somewhere() -> Iterator[Path]:
    """A temporary folder for the lab to live in, so that what is the lab's can be told from everything else."""
    # Not pytest's own: servers that refuse to be root have to get there.
    place = Path(tempfile.mkdtemp(prefix="place-"))
    place.chmod(0o755)
    yield place
    wait_until(lambda: not processes(place), f"the end of what lives in {place}")
    shutil.rmtree(place)


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


def shared_memory(creators: Collection[int]) -> list[int]:
    """The System V segments that one of *creators* made."""
    head, *rows = (line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines())
    return [int(row[head.index("shmid")]) for row in rows if int(row[head.index("cpid")]) in creators]


def nothing_is_left(place: Path, creators: Collection[int]) -> None:
    """Fail if something of the lab is left in *place*, a process of it lives, or memory that *creators* shared."""
    wait_until(lambda: not processes(place), f"the end of {processes(place)}")
    assert [] == [path.name for path in place.rglob("lab-*")]
    assert [] == shared_memory(creators)
