"""One Session, two threads: what is lost without a word, what is said, and what a connection does under two threads."""

import pytest

from lab.judge import judge


@pytest.mark.claim("shared-session-loses-acknowledged-write")
def test_an_acknowledged_write_is_lost(evidence):
    """What ends B's request takes A's write, and A's commit() says nothing; with a Session each it is stored."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-half-transfer")
def test_half_a_transfer_is_committed(evidence):
    """B's commit() stores half a transfer, which A takes back in vain; with a Session each it is taken back."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-dirty-read")
def test_a_dirty_read(evidence):
    """B reads what A takes back, at SERIALIZABLE too; with a Session each it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-rollback-on-the-wire")
def test_the_rollback_on_the_wire(evidence):
    """A's change and B's rollback go over one socket, and A's commit() sends nothing; with a Session each it does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-provisioning")
def test_provisioning(evidence):
    """While A's call waits for a connection, B's calls raise and A's succeeds; with a Session each all succeed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-illegal-state-change")
def test_an_illegal_state_change(evidence):
    """While A commits or rolls back, B's endings raise and A's stands; with a Session each all succeed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-prepared")
def test_prepared(evidence):
    """While A commits, B's execute() raises and A's commit stands; with a Session each both succeed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-already-flushing")
def test_already_flushing(evidence):
    """While A flushes, B's flush() raises and A's succeeds; with a Session each both succeed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-already-begun")
def test_already_begun(evidence):
    """Within A's transaction B's begin() raises and A's succeeds; with a Session each both succeed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("shared-session-error-in-one-loss-in-the-other")
def test_an_error_in_one_is_a_loss_in_the_other(evidence):
    """B's close() raises while A flushes, and A is told OK with nothing stored; a little later both raise."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("one-connection-two-threads")
def test_one_connection_under_two_threads(evidence):
    """On one connection B waits, is refused or breaks it, by driver; on a connection each nobody waits or fails."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("thread-safe-driver-loses-write")
def test_a_thread_safe_driver_loses_a_write(evidence):
    """With a driver of threadsafety 2, B's rollback on A's connection takes A's write; on its own it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("session-handed-over")
def test_a_session_is_handed_over(evidence):
    """A Session that goes from thread to thread is right; one that is used before it is let go raises."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("sqlite-session-in-another-thread")
def test_sqlite_in_another_thread(evidence):
    """SQLite's check of threads is met in memory, when asked for, and behind a creator; not with a file's default."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("sqlite-one-connection-for-all")
def test_one_connection_for_all_of_sqlite(evidence):
    """With StaticPool and no check, B's ending is A's, with a Session each; with a connection each it is not."""
    assert "reproduced" == judge(evidence).kind
