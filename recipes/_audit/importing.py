# SPDX-License-Identifier: 0BSD
"""Import an application as a prefork master would, in a process of its own, and say what that left behind.

The recipe ``import_audit`` does the import and finds the connections. What it is told to import is ``probe``,
which imports the application in its turn.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from .shapes import CannotRead, Imported, Place

# A name of its own, in a folder of its own: the application may have a package that is called recipes.
PROBE = "_probe_of_the_recipes_audit"
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)


def imported(application: str, folder: Path) -> Imported:
    """Import *application*, ``module:attribute``, with *folder* as the working folder.

    Raises:
        CannotRead: it cannot be imported; the text ends with the import's last line of error.
    """
    # Only here, so that nothing else needs SQLAlchemy.
    from .. import import_audit

    if not folder.is_dir():
        raise CannotRead(f"{folder}: no such folder; give the application's with --chdir")
    if not all(part.isidentifier() for part in application.partition(":")[0].split(".")):
        raise CannotRead(f"{application}: no name of a module; write it as package.module:attribute, without .py")
    with tempfile.TemporaryDirectory() as place:
        shutil.copy(Path(__file__).with_name("probe.py"), Path(place, f"{PROBE}.py"))
        report = Path(place, "report")
        env = {"AUDITED_APPLICATION": application, "AUDIT_REPORT": str(report)}
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
        try:
            found = import_audit.audit(f"{PROBE}:look()", cwd=folder, env=env)
        except import_audit.CannotAudit as problem:
            said = str(problem).replace(f"{PROBE}:look()", application)
            raise CannotRead(said if said.startswith("cannot") else f"cannot import {application}: {said}") from None
        rest = json.loads(report.read_text())
    places = [_place(finding.stack, application) for finding in found if finding.still_open]
    return Imported(application, tuple(places), rest["checked_out"], rest["in_transaction"], tuple(rest["threads"]))


def _place(stack: str, application: str) -> Place:
    # Code that SQLAlchemy has generated has no file.
    files = [(file, int(line)) for file, line in _FRAME.findall(stack) if Path(file).stem != PROBE and file[0] != "<"]
    return Place(*files[-1]) if files else Place(application, 1)
