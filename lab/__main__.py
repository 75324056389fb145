"""``python -m lab [CLAIM ...]``: run experiments in full and record their evidence."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from lab.components import Missing
from lab.evidence import RECORD, experiments, save
from lab.judge import judge
from lab.process import LabError


def main(names: Sequence[str]) -> int:
    known = experiments()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no experiment for {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    for claim in names or known:
        start = time.monotonic()
        try:
            evidence = known[claim].evidence(RECORD)
        except (LabError, Missing) as problem:
            print(f"{claim}: {problem}", file=sys.stderr)
            failed = True
            continue
        save(evidence)
        verdict = judge(evidence)
        print(f"{claim}: {verdict.kind} {' '.join(verdict.on)} ({time.monotonic() - start:.0f} s)", flush=True)
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
