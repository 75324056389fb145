"""What an article shows as code, and what no recipe holds, does what the article says."""

import re
import subprocess
import sys

import pytest

from lab.drivers import arguments
from lab.process import ROOT, environment

PROGRAM = """
import logging, os, runpy, sys
from sqlalchemy import create_engine, text
logging.basicConfig(stream=sys.stdout, format="%(message)s")
engine = create_engine(sys.argv[1])
runpy.run_path(sys.argv[2])["tell_who_uses_what"](engine)

def ask():
    with engine.connect() as connection:
        connection.execute(text("select 1"))

ask()
if not (child := os.fork()):
    if sys.argv[3] == "twin":
        engine.dispose(close=False)
    ask()
    os._exit(0)
os.waitpid(child, 0)
ask()
"""


@pytest.mark.parametrize("name", ["psycopg2", "psycopg", "PyMySQL"])
@pytest.mark.parametrize(("case", "processes"), [("fork", [2]), ("twin", [1, 1])])
def test_the_two_minute_test(name, case, processes, database):
    """One backend from two process ids is a crossed connection; a backend for each process is none."""
    script = ROOT / "docs" / "snippets" / "two_minute_test.py"
    command = [sys.executable, "-u", "-c", PROGRAM, arguments(name, database(name))["url"], str(script), case]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)

    seen = re.findall(r"^process (\d+), backend (\d+)$", done.stdout, re.MULTILINE)
    users = {backend: {pid for pid, other in seen if other == backend} for _, backend in seen}
    assert (3, processes) == (len(seen), sorted(map(len, users.values()))), done.stderr
