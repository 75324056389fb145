"""Fresh reads, a worker that polls, and the probe that names a cause: recipes beside their hazards."""

import pytest

from lab.judge import judge


@pytest.mark.claim("fresh-reads-recipe-right")
def test_fresh_reads_are_right(evidence):
    """Where the usual calls answer old, the recipe's answer new or raise, at every isolation."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fresh-reads-refuses-to-lose-work")
def test_fresh_reads_refuse_to_lose_work(evidence):
    """restart() raises where rollback() loses work in silence, and works where there is nothing to lose."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("polling-worker-recipe-sees-changes")
def test_a_polling_worker_sees_changes(evidence):
    """A worker that polls by the recipe sees a change at its next poll; one with a Session for life, never."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("polling-worker-idle-holds-nothing")
def test_an_idle_worker_holds_nothing(evidence):
    """While it sleeps it has no transaction, and nobody's ALTER TABLE waits for it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("polling-worker-survives-lost-connection")
def test_a_polling_worker_survives_a_lost_connection(evidence):
    """A backend that is ended costs one poll; without the recipe it costs all."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("staleness-probe-names-the-cause")
def test_the_probe_names_the_cause(evidence):
    """Each cause of an old value, forced, is named, and what is fresh is called so."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("staleness-probe-changes-nothing")
def test_the_probe_changes_nothing(evidence):
    """Transaction, objects, pending work and identity map are after a diagnosis what they were before."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("session-recipes-cost")
def test_the_recipes_for_sessions_send_nothing_more(evidence):
    """A request sends the server the same bytes with a recipe as without; what does send more is seen to."""
    assert "reproduced" == judge(evidence).kind
