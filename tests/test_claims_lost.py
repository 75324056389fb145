"""Correct Sessions are not enough: what loses an acknowledged update, what does not, and what that costs."""

import pytest

from lab.judge import judge


@pytest.mark.claim("lost-update-naive")
def test_two_correct_sessions(evidence):
    """Both read, both add, both commit, and one addition is gone, without an error; one after the other, it is not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-reading-again-does-not-help")
def test_reading_again(evidence):
    """A scoped_session, expire_all() and refresh() lose it as well; a locking read that populates does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-expression-cures")
def test_an_expression(evidence):
    """What the database adds up is never lost."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-for-update-cures")
def test_for_update(evidence):
    """A first read with a lock makes the other wait, and nothing is lost."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-for-update-in-vain")
def test_for_update_in_vain(evidence):
    """On a loaded object, under AUTOCOMMIT and on SQLite, FOR UPDATE loses it; with populate_existing it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-version-id-detects")
def test_version_id(evidence):
    """A version_id_col turns the second down; done again, both are there."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-serializable-retry-cures")
def test_serializable(evidence):
    """Where the database refuses one of two, a retry does both; where it does not, a retry has nothing to do."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-lock-per-process")
def test_a_lock_per_process(evidence):
    """A threading.Lock in each of two processes loses an update; in one process, or with an SQL expression, none."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-wild")
def test_the_wild(evidence):
    """Ten threads lose additions by the plain way, and none by any of the others."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("retry-transaction-does-both")
def test_the_retry(evidence):
    """After a deadlock, or a serialization failure, one of two transactions is undone; by the recipe both are done."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("lost-update-write-skew")
def test_write_skew(evidence):
    """Rows that are read only go wrong below SERIALIZABLE, with a version_id_col too, unless they are locked."""
    assert "reproduced" == judge(evidence).kind
