"""Tasks, greenlets and event loops: whose a Session is, what a cancelled one leaves, and one engine in two loops."""

import pytest

from lab.judge import judge


@pytest.mark.claim("task-one-session-cold")
def test_one_session_that_is_not_connected(evidence):
    """Of ten tasks with one AsyncSession that has not connected, one is answered and nine are refused."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-one-session-shares-its-transaction")
def test_one_session_that_is_connected(evidence):
    """Ten tasks share a connected AsyncSession without an error, and one's rollback takes another's update."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-nullpool-is-no-cure")
def test_null_pool_and_one_session(evidence):
    """With NullPool one AsyncSession for ten tasks fails and loses as with any pool."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-close-beside-a-sibling")
def test_the_block_ends_beside_a_sibling(evidence):
    """A block that ends while a sibling connects raises for the wrong reason and leaves a connection behind."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-registry-by-thread-is-one-session")
def test_a_registry_by_thread(evidence):
    """A registry that goes by thread has one Session for ten tasks, and one's remove() takes another's update."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-registry-by-task-keeps-all")
def test_a_registry_by_task(evidence):
    """A registry that goes by task keeps tasks, Sessions and connections until each task has called remove()."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-cancelled-leaves-the-pool-right")
def test_a_cancelled_task(evidence):
    """Wherever a task is cancelled, its closed Session leaves nothing checked out and no one else's answer."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("task-cancelled-in-commit-may-be-stored")
def test_a_task_cancelled_in_commit(evidence):
    """A task that is cancelled in commit() may have stored what it wrote."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("loop-one-engine-in-two")
def test_one_engine_in_two_loops(evidence):
    """An engine that is used in a second loop fails, with psycopg only once its pool has been full; remedies cure."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("loop-dispose-is-quiet")
def test_which_dispose_is_quiet(evidence):
    """dispose() before the loop ends says nothing and leaves nothing; in the next loop it complains."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("greenlet-registry-needs-early-patches")
def test_a_registry_and_patches(evidence):
    """Greenlets have Sessions of their own if the registry was made after the patches, and goes by what they patch."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("greenlet-killed-leaves-the-pool-right")
def test_a_killed_greenlet(evidence):
    """A greenlet killed in a Session leaves the pool right; in a cursor of the driver's, some drivers' it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("greenlet-freezes-with-psycopg2")
def test_a_driver_that_does_not_cooperate(evidence):
    """Two greenlets and one row freeze the process with psycopg2, until its waiting is gevent's."""
    assert "reproduced" == judge(evidence).kind
