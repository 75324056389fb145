"""A forked child inherits a session: what it shares, when it breaks the parent, and what becomes of a transaction."""

import pytest

from lab.judge import judge


@pytest.mark.claim("fork-inherits-session")
def test_inherits_session(evidence):
    """The child has the parent's Session object, in the parent's transaction, on the parent's socket and backend."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-rebinding-breaks-parent")
def test_rebinding_breaks_parent(evidence):
    """Over TLS the parent fails when its child rebinds the globals; with a reference kept, or without TLS, not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-collector-decides")
def test_collector_decides(evidence):
    """The parent fails in the iteration in which a collection in the child frees the session, and in no other."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-session-is-a-cycle")
def test_session_is_a_cycle(evidence):
    """A Session in a transaction outlives its last name until a collection; a closed one does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-close-false-cannot-help-checked-out")
def test_close_false_cannot_help_checked_out(evidence):
    """dispose(close=False) in the child does not save a connection that the session has checked out."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-second-program-only-seems-to-work")
def test_second_program_only_seems_to_work(evidence):
    """A local session works in the loop, is shared all the same, and breaks when the child unwinds the parent."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-child-keeps-dead-parents-locks")
def test_child_keeps_dead_parents_locks(evidence):
    """A killed program's row lock is held for as long as a child of it lives, and is free at once without one."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-close-and-dispose-before")
def test_close_and_dispose_before(evidence):
    """With all sessions closed and the engine disposed of before the fork, nothing is shared and nothing fails."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-rollback-splits-transaction")
def test_rollback_splits_transaction(evidence):
    """The child's collection rolls back the parent's transaction: of two rows one is kept, and nothing raises."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-second-collection-says-goodbye")
def test_second_collection_says_goodbye(evidence):
    """With mysqlclient and mysql-connector a second collection in the child ends the parent's connection."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-rollback-undoes-nothing")
def test_rollback_undoes_nothing(evidence):
    """On PostgreSQL the parent's own rollback no longer undoes what it wrote after the child's; on MariaDB it does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-split-transaction-traced")
def test_split_transaction_traced(evidence):
    """On the traced socket the child writes ROLLBACK, and the server warns the parent of its COMMIT."""
    assert "reproduced" == judge(evidence).kind
