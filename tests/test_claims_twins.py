"""The guard against crossings, and how to tell a crossed fork from what looks like one."""

import pytest

from lab.judge import judge


@pytest.mark.claim("crossing-guard-tells")
def test_crossing_guard_tells(evidence):
    """The guard logs one line for each crossing, with both process ids and both stacks, and none where none crosses."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("crossing-guard-strict-prevents")
def test_crossing_guard_strict_prevents(evidence):
    """With strict nothing that a child does to what it inherited reaches its parent's connection or transaction."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-twins-tell-apart")
def test_fork_twins_tell_apart(evidence):
    """One backend is seen from two process ids after a crossed fork, and not after a timeout, restart or proxy."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("twins-cured-by-pre-ping")
def test_twins_cured_by_pre_ping(evidence):
    """A pre-ping cures each twin; after a fork the processes go on sharing one connection."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("recipes-cost-no-round-trip")
def test_recipes_cost_no_round_trip(evidence):
    """With every recipe a checkout sends the server what it sends without; a pre-ping and NullPool send more."""
    assert "reproduced" == judge(evidence).kind
