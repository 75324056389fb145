"""Stale reads on the wire: what the server sends when an object keeps its old value."""

import pytest

from lab.judge import judge


@pytest.mark.claim("stale-row-arrives-and-is-dropped")
def test_the_row_arrives_and_is_dropped(evidence):
    """A held object keeps the old value though the new row was sent; under a snapshot the old row is sent."""
    assert "reproduced" == judge(evidence).kind
