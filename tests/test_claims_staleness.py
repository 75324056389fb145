"""Which reads of a Session answer old, why, and what ends it: the staleness grid, the identity map, its history."""

import pytest

from lab.judge import judge


@pytest.mark.claim("stale-held-object")
def test_held_object(evidence):
    """A held object keeps what it has, by identity; columns and raw SQL are new, and so is all once it is released."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-snapshot")
def test_snapshot(evidence):
    """In a snapshot all reads are old, held or not, a refresh too, until the transaction ends."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-read-committed-not-enough")
def test_read_committed_is_not_enough(evidence):
    """READ COMMITTED cures what was released, and a held object stays old."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-transaction-end-cures")
def test_the_end_of_the_transaction_cures(evidence):
    """rollback(), commit() and close() cure everywhere; expunge_all() and expire_all() where there is no snapshot."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-queries-are-executed")
def test_queries_are_executed(evidence):
    """A select of a held entity is sent, its row arrives, and is neither compared nor taken; get() sends nothing."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-reference-cycle")
def test_a_reference_cycle(evidence):
    """A plain object leaves the map when it is dropped, one in a cycle when it is collected, a changed one does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-expire-on-commit-false")
def test_expire_on_commit_false(evidence):
    """With expire_on_commit=False what is held is old after a commit too."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-bulk-update")
def test_a_bulk_update(evidence):
    """What the Session was not told to synchronise leaves its own loaded objects old."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-expire-all-per-isolation")
def test_expire_all(evidence):
    """Under REPEATABLE READ neither expire_all() nor the end of the transaction is enough alone; both are."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("session-has-no-invalidate-on-scoped")
def test_invalidate(evidence):
    """A scoped_session has no invalidate(); the Session in it has."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-locking-read")
def test_a_locking_read(evidence):
    """A locking read of a held object locks the row and answers old, unless it is told to populate or refresh."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-strong-map-history")
def test_the_strong_map(evidence):
    """SQLAlchemy 0.3 keeps what is let go of and never reads it anew; 0.4 and the newest let go."""
    assert "reproduced" == judge(evidence).kind
