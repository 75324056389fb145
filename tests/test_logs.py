"""The recorded logs: each has its expectation, none tells of the machine, and they can be recorded anew."""

from __future__ import annotations

import re
import socket
import tomllib
from pathlib import Path

import pytest

from lab import logs
from lab.process import ROOT
from lab.scenes import log_table, log_table_servers  # noqa: F401 - their rows add themselves
from recipes._diagnose import known

ROWS = tomllib.loads(logs.EXPECTED.read_text())["log"]
FILES = sorted(path.name for path in logs.LOGS.glob("*.log"))
SYMPTOMS = {symptom.id for symptom in known().symptoms}
# Where a path of a log may lie; a page's address, such as /stock/2, is none.
LOGGED = ("/usr/lib/", "/usr/bin/", "/usr/sbin/", "/var/log/", "/srv/app/", "/srv/run/")
# A cheap log by name, and the line for which it is there.
CHEAP = {
    "s41-raw-sqlite": r"^sqlite3\.ProgrammingError: SQLite objects created in a thread can only be used in that same",
    "s46-threads-psycopg2": r"^sqlalchemy\.exc\.InvalidRequestError: Session is already flushing$",
    "s07-multiprocessing-psycopg2": r"^psycopg2\.OperationalError: server closed the connection",
}


def test_every_log_has_one_expectation_and_the_other_way_round():
    """A log that nobody judged, and a judgement without its log, are both mistakes."""
    assert FILES == sorted(row["file"] for row in ROWS)


def test_every_log_can_be_recorded():
    """No log stands there that a row of the tables does not make."""
    assert set(FILES) == {f"{name}.log" for name in logs.RECORDINGS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_an_expectation_is_whole(row):
    """The first is a symptom or nothing, the others are symptoms and not the first again, and it says what was run."""
    first = [row["first"]] if row["first"] else []

    assert [] == [name for name in [*first, *row["also"]] if name not in SYMPTOMS]
    assert len({*first, *row["also"]}) == len([*first, *row["also"]])
    assert "SQLAlchemy" in row["from"] or "Python" in row["from"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["file"])
def test_the_name_tells_what_is_expected(row):
    """``s01-…`` is expected to be S01 first, ``none-…`` to be nothing; a twin may be anything."""
    kind = row["file"].partition("-")[0]
    named = {"none": "", "twin": row["first"]}.get(kind, kind.upper())

    assert named == row["first"]


@pytest.mark.parametrize("file", FILES)
def test_a_log_tells_nothing_of_the_machine(file):
    """No path but those of a package, of the made-up application and its server, and no name of the host."""
    text = (logs.LOGS / file).read_text()
    paths = re.findall(r"(?<![\w./:<])/(?:[\w.+-]+/)+[\w.+-]*", text)
    places = [str(ROOT), str(Path.home()) + "/", "/home/", "/tmp/", ".pyenv", "/.venv"]

    assert [] == [place for place in places if place in text]
    assert [] == [path for path in paths if not path.startswith(LOGGED) and not re.fullmatch(r"/[a-z]+/\d*", path)]
    assert not re.search(rf"\b{re.escape(socket.gethostname())}\b", text)


@pytest.mark.parametrize("file", FILES)
def test_a_log_is_short_enough_to_be_read(file):
    """None is longer than what a matcher in a browser is to be tried with."""
    size = (logs.LOGS / file).stat().st_size

    assert 0 < size < 60_000


@pytest.mark.parametrize("name", CHEAP)
def test_a_log_recorded_anew_has_its_essential_line(name):
    """The recorder still makes what stands in the corpus, and both have the line for which it is there."""
    line = CHEAP[name]
    with logs.servers_at_hand():
        again = logs.scrub(logs.RECORDINGS[name][1]())

    assert re.search(line, again, re.M)
    assert re.search(line, (logs.LOGS / f"{name}.log").read_text(), re.M)
