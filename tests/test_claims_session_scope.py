"""A Session per request under WSGI and Flask: which way of ending it withstands what."""

import pytest

from lab.judge import judge


@pytest.mark.claim("wsgi-remove-cures-plain")
def test_remove_cures_plain(evidence):
    """After a plain request the source's middlewares leave nothing open; without one a transaction stays open."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-remove-truncates-streams")
def test_remove_truncates_streams(evidence):
    """Both of the source's forms cut off a body that loads lazily; closing with the response does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-remove-skipped-by-exception")
def test_remove_skipped_by_exception(evidence):
    """After an exception the next request commits the failed one's change, in mid-stream with try/finally, too."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-generator-application-leaks")
def test_generator_application_leaks(evidence):
    """An application that is a generator begins after both of the source's forms are done."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-close-aware-right")
def test_close_aware_is_right(evidence):
    """A Session that is closed by the body's close() is right under every hazard; two forms of generator are not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("flask-hooks-per-hazard")
def test_flask_hooks(evidence):
    """Each of Flask's hooks fails under some hazard; with Session() in the generator and the recipe under none."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("flask-stream-teardown-by-release")
def test_flask_stream_teardown_by_release(evidence):
    """Since 3.1.2 Flask tears down before a body with stream_with_context, which is then cut off."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("flask-teardown-chain-broken")
def test_flask_teardown_chain_broken(evidence):
    """A teardown function that raises keeps those that are left from running, and the next request commits the rest."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("flask-sqlalchemy-scope")
def test_flask_sqlalchemy_scope(evidence):
    """db.session fails where teardown_appcontext does, but hands nothing to the next request."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("flask-sqlalchemy-hands-on-a-session")
def test_flask_sqlalchemy_hands_on_a_session(evidence):
    """Where a teardown function raises, a later request gets the Session of an earlier one, and commits its change."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-servers-call-close")
def test_servers_call_close(evidence):
    """Every server calls close() on the body; where a middleware keeps it, a client that goes leaves a transaction."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("wsgi-worst-on-apache")
def test_worst_on_apache(evidence):
    """On Apache a cut-off page is a success for its reader, and the next request commits what another gave up."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("close-ends-the-transaction")
def test_close_ends_the_transaction(evidence):
    """After close() the server has no transaction open, whatever the pool does; without it, it has."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("session-left-over-fails-next-job")
def test_session_left_over_fails_next_job(evidence):
    """With one Session for the worker, a job pays for what befell the one before it; with its own it does not."""
    assert "reproduced" == judge(evidence).kind
