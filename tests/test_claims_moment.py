"""When a process forks: what it has in hand, which locks are held, and where the popular remedies end."""

import pytest

from lab.judge import judge


@pytest.mark.claim("fork-nothing-connected-is-safe")
def test_nothing_connected_is_safe(evidence):
    """Before the engine has connected, parent and child open a connection each; after, they share one."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-when-checked-in")
def test_when_checked_in(evidence):
    """A checked-in connection is shared by a child that uses the engine, unless its pool is replaced first."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-checked-out-escapes-dispose")
def test_checked_out_escapes_dispose(evidence):
    """What is checked out at the fork stays on the parent's backend, whatever the child does to the pool."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-thread-holds-connection")
def test_thread_holds_connection(evidence):
    """A connection that another thread holds is checked out for ever in the child's copy of the pool."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-scoped-session-is-inherited")
def test_scoped_session_is_inherited(evidence):
    """A scoped_session gives the child the parent's Session, in its transaction and on its backend."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-child-deadlocks-pool")
def test_child_deadlocks_in_the_pool(evidence):
    """A child waits for ever for the pool's lock that another thread held, unless it replaces the pool first."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-child-deadlocks-first-connect")
def test_child_deadlocks_in_the_first_connect(evidence):
    """While a thread makes the first connection, a child waits for ever or has a dialect that knows nothing."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-child-deadlocks-mappers")
def test_child_deadlocks_in_the_mappers(evidence):
    """While a thread configures the mappers, a child that uses them waits for ever, with any engine."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-child-deadlocks-logging")
def test_child_deadlocks_in_logging(evidence):
    """A handler's own lock and a buffered stream's stay locked in the child; the lock of logging itself does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-dispose-before-is-not-enough-with-threads")
def test_dispose_before_is_not_enough_with_threads(evidence):
    """dispose() before the fork is undone by a second thread, and does not reach an open Session."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-nullpool-limits")
def test_nullpool_limits(evidence):
    """NullPool leaves nothing to share but what is checked out."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-remove-in-child-loses-work")
def test_remove_in_child_loses_work(evidence):
    """remove() in the child rolls the parent's work back, and nobody is told."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-pre-ping-is-no-cure")
def test_pre_ping_is_no_cure(evidence):
    """A child with pool_pre_ping goes on with the parent's connection, which over TLS it ends."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-sslmode-disable-silences")
def test_tls_off_silences(evidence):
    """Without TLS the same two programs raise nothing, share a backend and lose a row."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-reset-on-return-none-no-help")
def test_reset_on_return_none_is_no_help(evidence):
    """pool_reset_on_return=None shares the connection all the same, and leaves it in a transaction."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-multiplies-no-sessions")
def test_multiplies_no_sessions(evidence):
    """The server counts one session more for each child that connects, and none for a fork."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-engine-does-not-pickle")
def test_engine_does_not_pickle(evidence):
    """What is bound to an engine cannot be handed to a spawned child; its URL, a key and a detached object can."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-str-url-hides-password")
def test_str_url_hides_password(evidence):
    """A child that is handed str(engine.url) is refused by the server."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-warning-of-threads")
def test_warning_of_threads(evidence):
    """Python 3.12's warning comes with a second thread, and is silent about a shared connection."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-running-event-loop")
def test_running_event_loop(evidence):
    """A child that uses the async engine it inherited shares the connection or breaks it; a new engine does neither."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-inherited-loop-is-of-no-use")
def test_inherited_loop_is_of_no_use(evidence):
    """A coroutine that goes on in the child has no running loop; asyncio.run has one."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-shares-the-selector")
def test_shares_the_selector(evidence):
    """With asyncpg a collection in the child takes the parent's connection off the parent's own selector."""
    assert "reproduced" == judge(evidence).kind
