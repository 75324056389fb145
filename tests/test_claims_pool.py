"""Who runs into a pool's limit, who stands still because of it, and what the server's own limits do."""

import pytest

from lab.judge import judge


@pytest.mark.claim("pool-leak-ends-every-pool")
def test_a_leak(evidence):
    """A Session that is left open ends every pool, or the server; closed ones end none."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-sixteenth-waits-thirty-seconds")
def test_the_sixteenth(evidence):
    """The sixteenth Session on the default pool fails after thirty seconds, with these words."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-held-across-a-slow-call")
def test_a_slow_call(evidence):
    """A connection that is held across a slow call is nobody else's; commit, rollback or close before it give it up."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-size-bounds-what-runs-at-once")
def test_turns(evidence):
    """So many threads as the pool has connections go on at once, and the others wait for their turn."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-queue-is-not-fair")
def test_the_queue(evidence):
    """A thread in a tight loop takes its connection again before a waiter has it; a queue of work is fair."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-fastapi-standstill")
def test_fastapi(evidence):
    """As many requests as threads and connections together stand still, one fewer do not, whatever the pool's size."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-fastapi-standstill-remedies")
def test_fastapi_remedies(evidence):
    """Admission and one Session per step cure the standstill; a Session per request by the recipe does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-second-connection")
def test_a_second_connection(evidence):
    """Threads that each want one more all wait, unless the pool has one more than all can hold."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-budget-against-the-server")
def test_the_budget(evidence):
    """What all pools may open fits the server to the last connection, and the recipe says so beforehand."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-idle-timeout-is-a-backstop")
def test_the_backstop(evidence):
    """The server's timeout frees the row, not the pool, and the open Session's next statement fails."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pool-leak-watch-names-the-holder")
def test_the_watch(evidence):
    """The pool's message names nobody; the recipe names the function that left its Sessions open, and no other."""
    assert "reproduced" == judge(evidence).kind
