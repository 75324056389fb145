"""The source's threaded server, built for real: whose a Session is, and whether the books are right."""

import pytest

from lab.judge import judge


@pytest.mark.claim("threads-shared-session-breaks")
def test_one_session_for_all_threads(evidence):
    """Requests fail in every load on one Session, a rollback on error or not; on a Session per request none does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-session-per-request-keeps-the-books")
def test_a_session_per_request(evidence):
    """A Session per request, in threads without bound, in the recipe's workers or in tasks, keeps the books."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-scoped-session-keeps-the-books")
def test_scoped_session(evidence):
    """So does a scoped_session that is removed after each request."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-lock-keeps-the-books")
def test_one_lock(evidence):
    """So does one lock around all requests, even with one Session."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-remove-forgotten-idle-in-transaction")
def test_remove_is_forgotten(evidence):
    """Each thread of a pool keeps a transaction open after its last request, unless it is rolled back or removed."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-dead-thread-keeps-its-connection")
def test_a_dead_thread(evidence):
    """A thread that ends without remove() takes its connection with it until the collector runs."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("threads-overload-is-answered-busy")
def test_overload(evidence):
    """The recipe answers who is too much at once, with five threads; a thread per connection lets them time out."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("thread-recipes-cost")
def test_the_recipes_cost(evidence):
    """With a recipe for threads or tasks a request sends as many bytes as without; a Session per query sends more."""
    assert "reproduced" == judge(evidence).kind
