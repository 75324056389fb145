"""How long the box of the site takes over a log, in Chromium. Run it: ``python -m tests.bench_diagnose``.

The logs are made of one recorded log, told over and over between healthy lines, so that every line is looked at.
"""

import json
import statistics
from dataclasses import asdict
from pathlib import Path

from playwright.sync_api import sync_playwright

from lab.components import need
from recipes import _diagnose

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 11
HEALTHY = "2026-11-25 10:00:00,123 INFO sqlalchemy.engine.Engine SELECT page.id FROM page WHERE page.id = %(id_1)s\n"
TIMED = """([patterns, log, rounds]) => {
  const diagnose = makeDiagnose(JSON.parse(patterns));
  return Array.from({ length: rounds }, () => {
    const began = performance.now();
    diagnose(log);
    return performance.now() - began;
  });
}"""


def main() -> None:
    told = "".join((ROOT / "tests" / "logs" / "s01-uwsgi-psycopg2-tls.log").read_text().splitlines(keepends=True)[-80:])
    patterns = json.dumps(asdict(_diagnose.known()))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=need("chromium"), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.add_script_tag(path=ROOT / "docs" / "_static" / "diagnose.js")
        for size in (10_000, 100_000, 1_000_000, 4_000_000, 10_000_000):
            piece = HEALTHY * 200 + told
            log = (piece * (size // len(piece) + 1))[:size]
            took = page.evaluate(TIMED, [patterns, log, ROUNDS])
            median, worst = statistics.median(took), max(took)
            print(f"{size / 1e6:6.2f} MB  median {median:6.1f} ms  slowest of {ROUNDS} {worst:6.1f} ms")
        browser.close()


if __name__ == "__main__":
    main()
