"""``python -m lab [CLAIM ...]``: run experiments in full and record their evidence."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from lab.evidence import RECORD, experiments, save
from lab.judge import judge


def main(names: Sequence[str]) -> int:
    known = experiments()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no experiment for {', '.join(unknown)}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    for claim in names or known:
        start = time.monotonic()
        evidence = known[claim].evidence(RECORD)
        save(evidence)
        verdict = judge(evidence)
        print(f"{claim}: {verdict.kind} {' '.join(verdict.on)} ({time.monotonic() - start:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
