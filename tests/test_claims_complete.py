"""Every claim has a sentence in an article, an experiment and a test; nothing of the three stands alone."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path

from lab.evidence import ROOT, experiments


def claims_in_articles(texts: Iterable[str]) -> list[str]:
    return [claim for text in texts for claim in re.findall(r"^:{3,}\{claim\} (\S+)", text, re.MULTILINE)]


def claims_in_tests(texts: Iterable[str]) -> list[str]:
    """The claim that each test with a claim marker, or with the ``evidence`` fixture, names; "" for none."""
    return [_claim_of(node) for text in texts for node in ast.walk(ast.parse(text)) if _decides(node)]


def gaps(articles: list[str], tests: list[str], registered: Iterable[str]) -> list[str]:
    """What does not fit, a line each."""
    known = set(registered)
    lines = [f"{claim}: stated in an article, named by no test" for claim in sorted(set(articles) - set(tests))]
    lines += [f"{claim}: named by a test, stated in no article" for claim in sorted(set(tests) - set(articles) - {""})]
    lines += [f"{claim}: no experiment" for claim in sorted((set(articles) | set(tests)) - known - {""})]
    lines += [f"{claim}: an experiment that no article states" for claim in sorted(known - set(articles))]
    lines += [f"{claim}: decided by two tests" for claim in sorted({c for c in tests if c and tests.count(c) > 1})]
    return lines + ["a test asks for evidence and names no claim" for claim in tests if not claim]


def _decides(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and ("evidence" in [argument.arg for argument in node.args.args] or bool(_claim_of(node)))
    )


def _claim_of(node: ast.FunctionDef) -> str:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.claim":
            return decorator.args[0].value
    return ""


def _read(paths: Iterable[Path]) -> list[str]:
    return [path.read_text() for path in paths]


def test_claims_fit_together():
    """Each claim stands in an article, in the register of experiments and in exactly one test."""
    articles = claims_in_articles(_read((ROOT / "docs").glob("*.md")))
    tests = claims_in_tests(_read((ROOT / "tests").glob("test_claims_*.py")))

    # Oracle's exists only where there is an Oracle, and is stated once it has been recorded.
    registered = [claim for claim in experiments() if not claim.endswith("-oracle")]

    assert [] == gaps(articles, tests, registered)
    assert len(articles) > 20


def test_a_claim_without_a_test_is_a_gap():
    """A claim in an article that no test names is reported."""
    articles = claims_in_articles([":::{claim} a\nSo it is.\n:::\n"])

    assert ["a: stated in an article, named by no test"] == gaps(articles, [], ["a"])


def test_a_test_without_a_claim_is_a_gap():
    """A test that asks for evidence and names no claim is reported."""
    tests = claims_in_tests(["def test_it(evidence):\n    pass\n"])

    assert ["a test asks for evidence and names no claim"] == gaps([], tests, [])


def test_a_test_of_an_unstated_claim_is_a_gap():
    """A test that names a claim that no article states is reported."""
    tests = claims_in_tests(['@pytest.mark.claim("b")\ndef test_it(evidence):\n    pass\n'])

    assert ["b: named by a test, stated in no article", "b: an experiment that no article states"] == gaps(
        [], tests, ["b"]
    )


def test_a_claim_without_an_experiment_is_a_gap():
    """A claim that no experiment decides is reported."""
    assert ["c: no experiment"] == gaps(["c"], ["c"], [])
