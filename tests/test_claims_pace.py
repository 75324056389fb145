"""Is threading the way not to go? What a lock, pools, workers and an event loop make of the same work."""

import pytest

from lab.judge import judge


@pytest.mark.claim("pace-lock-is-a-pool-of-one")
def test_a_lock_lets_one_in(evidence):
    """Behind a lock the server has one statement at a time; a pool lets in as many as it has connections."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pace-pool-beats-the-lock")
def test_a_pool_beats_the_lock(evidence):
    """With five connections at least twice as much is served as by the lock, and never more than they can wait for."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pace-cpu-is-the-other-limit")
def test_a_larger_pool_makes_no_cpu(evidence):
    """Short statements leave a large pool far below what its connections could do; long ones do not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pace-workers-do-not-overtake")
def test_workers_do_not_overtake(evidence):
    """Threads that wait for a connection are overtaken by later ones; requests that wait for a worker are not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pace-asyncio-is-no-faster")
def test_an_event_loop_is_no_faster(evidence):
    """With the same pool of ten or twenty an event loop serves no more than threads do."""
    assert "reproduced" == judge(evidence).kind
