"""The source's symptom under real servers, its two causes there, and what ends both."""

import pytest

from lab.judge import judge


@pytest.mark.claim("stale-n-minus-1")
def test_all_but_one_are_stale(evidence):
    """After a change all interpreters but the one that wrote it answer with the old value; with remove(), none."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-alternates")
def test_old_and_new_in_turn(evidence):
    """One visitor gets the old page and the new one, and no other; with remove() only the new one."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-reload-cures")
def test_a_reload_cures_until_the_next_change(evidence):
    """A graceful reload makes every interpreter answer with the new value, and the next change undoes that."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-remove-cures")
def test_remove_cures(evidence):
    """remove() at the end of every request leaves none stale, whatever the database, isolation, or what is held."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-two-causes-in-apache")
def test_two_causes_in_apache(evidence):
    """A held object is stale beside a fresh row; a snapshot makes both stale; without either, neither is."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-readers-idle-in-transaction")
def test_readers_are_idle_in_transaction(evidence):
    """Every interpreter that has read stays in a transaction on the server until remove() ends it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("stale-polling-worker")
def test_polling_worker(evidence):
    """A worker that polls with one Session never sees the change on a held object, and sees it after rollback()."""
    assert "reproduced" == judge(evidence).kind
