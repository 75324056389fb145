# SPDX-License-Identifier: 0BSD
# Recipe: import_audit, version 1 (Forks, Threads and Sessions, /docs/recipes/#import-audit)
"""Fail a test when importing the application leaves a database connection open, and show the line that opened it.

Problem: a prefork server imports the application in its master and then forks. A connection that is open by then is
one socket that every worker inherits.

Use it when: the server imports before it forks (uWSGI's default, gunicorn ``--preload``): as one test of the project's
own, or as ``python import_audit.py shop.wsgi:application`` (exit code 1: it found some; 2: it could not look).
Not when: every worker imports for itself (uWSGI's ``lazy-apps``, gunicorn's default); or the recipes uwsgi_postfork or
fork_safe_engine are in use, with which the master may keep its connections.
It does not see: connections opened without SQLAlchemy, in a server's hooks, or in processes that the import starts.

The import runs in an interpreter of its own, with *cwd* importable, as a server would do it:

>>> import pathlib, tempfile
>>> folder = tempfile.TemporaryDirectory()
>>> app = pathlib.Path(folder.name, "shop.py")
>>> _ = app.write_text('''
... from sqlalchemy import create_engine, text
... engine = create_engine("sqlite:///shop.db")
... with engine.connect() as connection:
...     connection.execute(text("select 1"))
... def application(environ, start_response): ...
... ''')
>>> assert_no_open_connections("shop:application", cwd=folder.name)  # doctest: +ELLIPSIS
Traceback (most recent call last):
AssertionError: importing shop:application opened 1 connection that every worker would inherit
sqlite3.Connection, still open:
  File ".../shop.py", line 4, in <module>
    with engine.connect() as connection:...
>>> _ = app.write_text(app.read_text() + "engine.dispose()")
>>> assert_no_open_connections("shop:application", cwd=folder.name)
>>> folder.cleanup()

Tested with SQLAlchemy 2.0 and 2.1 on CPython 3.11 and newer.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
import weakref
from typing import NamedTuple

import sqlalchemy

_NOT_THE_APPLICATION = (os.path.dirname(sqlalchemy.__file__) + os.sep, importlib.__file__, "<frozen ", __file__)


class CannotAudit(Exception):
    """The application could not be imported; the text is one line that says why."""


class Finding(NamedTuple):
    """A connection that the import opened: its type, its state at the end, and the stack outside SQLAlchemy."""

    connection: str
    still_open: bool
    stack: str


def assert_no_open_connections(application: str, *, strict: bool = False, **how) -> None:
    """Raise AssertionError if importing *application* leaves a connection open; if *strict*, also if it opens one."""
    if bad := [finding for finding in audit(application, **how) if strict or finding.still_open]:
        what = f"{len(bad)} connection{'s' * (len(bad) > 1)}{'' if strict else ' that every worker would inherit'}"
        each = [f"{f.connection}, {'still open' if f.still_open else 'closed again'}:\n{f.stack}" for f in bad]
        raise AssertionError(f"importing {application} opened {what}\n{''.join(each)}")


def audit(application: str, *, cwd=None, env=None, timeout: float = 60.0) -> list[Finding]:
    """Import *application* ("package.module:name") in a new interpreter and return the connections that this opened.

    *env* is added to the environment. Raises CannotAudit, also when the import takes longer than *timeout* seconds.
    """
    command = [sys.executable, "-P", os.path.abspath(__file__), "--record", application]
    how = {"cwd": cwd, "env": {**os.environ, **(env or {})}, "stdin": subprocess.DEVNULL, "start_new_session": True}
    # Files, not pipes: whoever the import starts and leaves behind would keep a pipe open.
    with tempfile.TemporaryFile("w+") as report, tempfile.TemporaryFile("w+", errors="replace") as log:
        child = subprocess.Popen(command, stdout=report, stderr=log, **how)
        try:
            child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CannotAudit(f"importing {application} takes longer than {timeout:g} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        report.seek(0), log.seek(0)
        said = json.loads(report.read() or "{}")
        if "findings" not in said:
            ended = ", ".join([f"it ended with exit code {child.returncode}", *log.read().strip().splitlines()[-1:]])
            raise CannotAudit(f"cannot import {application}: {said.get('error', ended)}")
        return [Finding(*finding) for finding in said["findings"]]


def _record(application: str) -> None:
    report = os.dup(1)
    os.dup2(2, 1)
    seen, by_id = [], {}

    def opened(connection, record):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        # A weak reference: what the application drops must go.
        by_id[id(connection)] = entry = [kind, weakref.ref(record), _stack()]
        seen.append(entry)

    def closed(connection, *_):
        by_id.pop(id(connection), [0, 0])[1] = lambda: None

    def detached(connection, _):
        by_id[id(connection)][1] = lambda: connection

    listeners = {"connect": opened, "close": closed, "detach": detached, "close_detached": closed}
    for name, listener in listeners.items():
        sqlalchemy.event.listen(sqlalchemy.Pool, name, listener)
    sys.path.insert(0, os.getcwd())
    sys.argv[1:] = []
    try:
        module, _, name = application.partition(":")
        name, factory, _ = (name or "application").partition("()")
        found = getattr(importlib.import_module(module), name)
        if factory:
            found = found()
        said = {"findings": [(kind, alive() is not None, stack) for kind, alive, stack in seen]}
    except BaseException as problem:
        frames = _outside(traceback.extract_tb(problem.__traceback__))[-1:]
        words = str(problem).strip().partition("\n")[0] + "".join(f" ({f.filename}, line {f.lineno})" for f in frames)
        said = {"error": f"{type(problem).__name__}: {words}"}
    os.write(report, json.dumps(said).encode())
    # As abruptly as a master forks: no exit handlers, no wait for threads.
    os._exit(0)


def _stack() -> str:
    # An async engine connects in a greenlet, whose caller waits in the parent.
    greenlet = sys.modules.get("greenlet")
    parent = greenlet and greenlet.getcurrent().parent
    frames = [*(traceback.extract_stack(parent.gr_frame) if parent else []), *traceback.extract_stack()]
    return "".join(traceback.format_list(_outside(frames)))


def _outside(frames) -> list[traceback.FrameSummary]:
    return [frame for frame in frames if not frame.filename.startswith(_NOT_THE_APPLICATION)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Find the connections that an application's import leaves open.")
    parser.add_argument("application", help="package.module:name, as uWSGI and gunicorn name it")
    parser.add_argument("--strict", action="store_true", help="count those that were closed again, too")
    try:
        assert_no_open_connections(**vars(parser.parse_args()))
    except (AssertionError, CannotAudit) as problem:
        print(problem, file=sys.stderr)
        return 1 if isinstance(problem, AssertionError) else 2
    return 0


if __name__ == "__main__":
    sys.exit(_record(sys.argv[2]) if sys.argv[1:2] == ["--record"] else main())
