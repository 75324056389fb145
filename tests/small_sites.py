"""Small sites of their own, with pages and evidence made up, for tests of the Sphinx extension."""

import html
import importlib
import json
import multiprocessing
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

from sphinx.application import builtin_extensions
from sphinx.cmd.build import main as sphinx

from lab import evidence as lab_evidence
from lab.shapes import Evidence

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
FORKS = multiprocessing.get_context("fork")

ROOT = Path(__file__).resolve().parents[1]

CONF = f"""
import json, sys
from pathlib import Path

sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "docs" / "_ext")!r}]
from lab import evidence

here = Path(__file__).parent
evidence.ROOT, evidence.FOLDER = here, here / "evidence"
known = {{
    claim: evidence.Experiment(claim, tuple(seeds), None, (here / "experiment.py",))
    for claim, seeds in json.loads((here / "experiments.json").read_text()).items()
}}
evidence.experiments = lambda: known

project, language = "Small site", "en_GB"
extensions = ["myst_parser", "claims"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
html_theme, html_permalinks, html_use_index = "basic", False, False
claims_sources = "sources.toml"
"""


def small_site(folder, patch):
    """A site in *folder* that knows no claim yet; *patch* has the lab take its evidence from there."""
    patch.setattr(lab_evidence, "ROOT", folder)
    patch.setattr(lab_evidence, "FOLDER", folder / "evidence")
    site = Site(folder)
    site.write("conf.py", CONF)
    site.write("experiments.json", "{}")
    site.write("experiment.py", "answer = 42\n")
    return site


@dataclass
class Site:
    """A folder with pages and evidence, and builds of it."""

    folder: Path

    def claim(self, claim, *arms, seeds=(), digest=""):
        """Register an experiment, and put what it recorded on file; without *arms* nothing is."""
        path = self.folder / "experiments.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps(known | {claim: seeds}))
        if arms:
            digest = digest or lab_evidence.digest([self.folder / "experiment.py"])
            machine = {"cores": 2, "kernel": "6.1", "system": "Debian"}
            lab_evidence.save(Evidence(claim, arms, {"Python": "3.99"}, machine, "2026-11-21", digest))

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def state(self, claim, sentence="It breaks.", options="", page="index.md"):
        path = self.folder / page
        text = path.read_text() if path.exists() else f"# {page}\n"
        path.write_text(f"{text}\n:::{{claim}} {claim}\n{options}{sentence}\n:::\n")

    def build(self, *options):
        output, log = self.folder / "_build", self.folder / "log"
        arguments = ["-q", "-w", str(log), "-n", "-b", "dirhtml", *options, str(self.folder), str(output)]
        process = FORKS.Process(target=run, args=(arguments,))
        process.start()
        process.join(120)
        return Build(process.exitcode, log.read_text(), output)


def run(arguments):
    warnings.resetwarnings()
    sys.exit(sphinx(arguments))


def bare(text):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text))).strip()


@dataclass
class Build:
    """How a build ended, what it warned of, and its pages."""

    returncode: int
    log: str
    output: Path

    @property
    def warnings(self):
        """File, line, kind and text of each."""
        found = re.findall(r"^(?:.*/)?(\S+?):(\d*):? WARNING: (.*) \[(\S+)\]$", self.log, re.MULTILINE)
        return [(f"{file}:{line}", kind, text) for file, line, text, kind in found]

    def page(self, name=""):
        return (self.output / name / "index.html").read_text()

    def text(self, name=""):
        return bare(self.page(name))


def import_all():
    """Import once what every build would."""
    for name in (*builtin_extensions, "myst_parser.sphinx_ext.main"):
        importlib.import_module(name)
