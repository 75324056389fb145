"""Advice that no other page puts to the test."""

import pytest

from lab.judge import judge


@pytest.mark.claim("advice-global-session-greenlets")
def test_one_global_session_for_greenlets(evidence):
    """One global Session refuses, loses and commits what another greenlet does; a Session each does not."""
    assert "reproduced" == judge(evidence).kind
