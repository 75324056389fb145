"""Notebooks are committed clean, and judge what they show. The build of the site runs them (``test_site.py``)."""

from __future__ import annotations

import nbformat
import pytest

from lab.evidence import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    """The folder of notebooks is not empty."""
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_clean(path):
    """A notebook holds no output and no execution count, and its cells have readable, unique ids."""
    cells = nbformat.read(path, as_version=4).cells

    assert [] == [cell.id for cell in cells if cell.get("outputs") or cell.get("execution_count")]
    assert len(cells) == len({cell.id for cell in cells})
    assert all(cell.id.replace("-", "").isalpha() for cell in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_judges(path):
    """A notebook asserts a verdict by the judge that the tests and the pages use."""
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")

    assert "from lab.judge import judge" in code
    assert "judge(evidence)" in code and "assert " in code
