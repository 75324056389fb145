"""The lab's replica: behind when it is told to be, and gone with its user."""

import os
import re
import signal
import subprocess
import sys

import pytest
from leftovers import nothing_is_left, processes, somewhere

from lab import components
from lab.process import LabError, environment
from lab.replica import replica

USER = """
import sys, time
from lab.replica import replica
with replica() as pair:
    pair.hold()
    print(pair.primary.port, pair.standby.port, flush=True)
    time.sleep(600 if sys.argv[1] == "wait" else 0)
"""


def test_the_standby_is_behind_while_it_is_held():
    """A standby that is held answers from before the write, one that goes on answers from after, and neither writes."""
    with replica() as pair:
        pair.primary.ask("create table page (id int primary key, title text)")
        pair.primary.ask("insert into page values (1, 'old')")
        with pair.held():
            pair.primary.ask("update page set title = 'new'")
            assert [("new",)] == pair.primary.ask("select title from page")
            assert [("old",)] == pair.standby.ask("select title from page")
            with pytest.raises(LabError, match="its replay is held"):
                pair.catch_up()
        assert [("new",)] == pair.standby.ask("select title from page")
        with pytest.raises(Exception, match="read-only transaction"):
            pair.standby.ask("insert into page values (2, 'x')")


@pytest.mark.parametrize("end", ["end", signal.SIGKILL], ids=["end", "SIGKILL"])
def test_nothing_of_the_pair_is_left(end):
    """Both servers and both folders are gone when the block ends, and when its user is killed."""
    components.need("postgresql")
    with somewhere() as place:
        command = [sys.executable, "-c", USER, "wait" if end is signal.SIGKILL else "end"]
        env = environment({"TMPDIR": str(place)})
        with subprocess.Popen(command, env=env, stdout=-1, text=True, start_new_session=True) as user:
            assert re.fullmatch(r"\d+ \d+\n", user.stdout.readline())
            if end is signal.SIGKILL:
                assert [True] * 2 == [any(name in text for text in processes(place).values()) for name in WORKERS]
                os.killpg(user.pid, end)
            user.wait(60)

        nothing_is_left(place)


WORKERS = ("walsender", "walreceiver")


def test_a_postgresql_that_cannot_replicate_is_missing(monkeypatch):
    """Without pg_basebackup there is one line that says so."""
    components.need("postgresql")
    monkeypatch.setattr("lab.replica.COPY", "pg_no_such_tool")

    with pytest.raises(components.Missing, match="pg_no_such_tool is missing"), replica():
        pass
