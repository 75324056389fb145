"""What a Session's scope is: a thread, a thread of a pool, a dead one, a key, a context; and what is handed across."""

import pytest

from lab.judge import judge


@pytest.mark.claim("scope-thread-has-its-own")
def test_each_thread_has_its_own(evidence):
    """A scoped_session gives four threads four Sessions, each the same at every call; a global one serves all four."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-stored-session-is-shared")
def test_a_stored_session_is_shared(evidence):
    """What is stored from a call of the registry is one Session for all, and one thread undoes the work of another."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-close-all-breaks-others")
def test_close_all_breaks_others(evidence):
    """close_all_sessions() at the end of a request breaks one that is at work; remove() does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-pool-thread-keeps-session")
def test_a_thread_of_a_pool_keeps_its_session(evidence):
    """Without remove() a job of a pool's thread pays for the one before it; with it, it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-dying-thread-keeps-connection")
def test_a_dying_thread_keeps_its_connection(evidence):
    """Of 60 threads, one after the other, 15 are served where the collector stands still, and all with remove()."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-thread-ids-come-back")
def test_ids_of_threads_come_back(evidence):
    """With get_ident as scopefunc a new thread is handed a dead one's Session; with a threading.local it is not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-context-is-not-a-thread")
def test_a_context_is_not_a_thread(evidence):
    """With a context variable as scopefunc, threads without a value share a Session, and so do copies of a context."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-object-brings-its-session")
def test_an_object_brings_its_session(evidence):
    """An object in another thread loads over its own Session's connection; a primary key or merge() does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-fastapi-thread-hop")
def test_fastapi_changes_threads_within_a_request(evidence):
    """Where dependency and endpoint run in two threads, a Session by thread is two Sessions."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-nested-context-other-session")
def test_a_nested_context_has_another_session(evidence):
    """In a nested application context db.session is another one, and refuses the outer one's objects."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("scope-nested-context-removes-outer")
def test_a_nested_context_removes_the_outer_session(evidence):
    """With remove() in teardown_appcontext the end of a nested context takes the outer one's Session along."""
    assert "reproduced" == judge(evidence).kind
