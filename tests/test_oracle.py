"""Oracle's experiment exists where there is an Oracle, and says in one line when it cannot be reached."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lab.evidence import ROOT

CLAIM = "uwsgi-prefork-breaks-oracle"


def run(**more: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "ORACLE_URL"} | more
    return subprocess.run([sys.executable, "-m", "lab", CLAIM], cwd=ROOT, env=env, capture_output=True, text=True)


def test_no_oracle():
    """Without ORACLE_URL there is no such experiment."""
    done = run()

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"no experiment for {CLAIM}; ")


@pytest.mark.parametrize("driver", ["oracledb", "cx_oracle"])
def test_unreachable_oracle(driver):
    """An Oracle that cannot be reached ends the run with one line, which does not tell the password."""
    done = run(ORACLE_URL=f"oracle+{driver}://scott:tiger@127.0.0.1:1/x")

    assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert done.stderr.startswith(f"{CLAIM}: ")
    assert "tiger" not in done.stderr
