"""The claims of the article on uWSGI lockups that rest on prefork servers and on the forced interleavings."""

from __future__ import annotations

import pytest

from lab.judge import judge


@pytest.mark.claim("uwsgi-prefork-breaks")
def test_prefork_breaks(evidence):
    """One connection opened at import breaks four prefork workers on every driver, plain and over TLS."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-first-bad-answer")
def test_first_bad_answer(evidence):
    """The first bad answer can come within the first ten."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-wrong-rows")
def test_wrong_rows(evidence):
    """A worker is handed the row of another request, without an error."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-lockup")
def test_lockup(evidence):
    """Workers hang for ever: asleep in a read, with nothing left to come."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-server-log")
def test_server_log(evidence):
    """The database server's log complains, and says nothing once the workers have connections of their own."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-sequential-plain-is-silent")
def test_sequential_plain(evidence):
    """One request at a time over a plain socket, four workers share a connection and nobody notices."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-sequential-tls-fails")
def test_sequential_tls(evidence):
    """One request at a time over TLS, all workers but the first fail at once, and then no more."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-one-socket-five-owners")
def test_one_socket(evidence):
    """Master and four workers hold one and the same socket to the database."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("gunicorn-preload-breaks")
def test_gunicorn_preload(evidence):
    """gunicorn with --preload shares the connection in the same way; without it each worker has its own."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-answers-swapped")
def test_answers_swapped(evidence):
    """Two processes on one connection are handed each other's rows, on every driver."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-waits-for-ever")
def test_waits_for_ever(evidence):
    """One process reads both answers into its own buffer, and the other waits for ever."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("thread-safe-is-not-fork-safe")
def test_thread_safe_is_not_fork_safe(evidence):
    """A connection that two threads may share swaps the answers of two processes."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-remedies-cure")
def test_remedies_cure(evidence):
    """Every remedy of the table gives each worker, first and respawned, a connection of its own."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-non-cures")
def test_non_cures(evidence):
    """Pool options, isolation level and close-on-exec leave workers on the master's connection."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-register-at-fork-needs-an-option")
def test_register_at_fork(evidence):
    """os.register_at_fork does nothing under uWSGI until an option switches it on."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-dispose-kills-the-master")
def test_dispose_kills_the_master(evidence):
    """dispose() in a worker ends the master's connection, on every driver."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-close-false-spares-the-master")
def test_close_false_spares_the_master(evidence):
    """dispose(close=False) spares the master's connection on four drivers; two say goodbye when the pool is freed."""
    _depends_on_those_that_say_goodbye(evidence)


@pytest.mark.claim("uwsgi-pid-guard-spares-the-master")
def test_pid_guard_spares_the_master(evidence):
    """The documented pid guard spares the master's connection on four drivers and ends it on two."""
    _depends_on_those_that_say_goodbye(evidence)


@pytest.mark.claim("recipes-spare-the-master")
def test_recipes_spare_the_master(evidence):
    """Both recipes cure the workers and leave the master's connection alive, on every driver."""
    assert "reproduced" == judge(evidence).kind


def _depends_on_those_that_say_goodbye(evidence):
    verdict = judge(evidence)
    goodbye = {"mysqlclient", "mysql-connector"} & {arm.setup.driver for arm in evidence.arms if not arm.not_run}

    assert ("depends" if goodbye else "reproduced") == verdict.kind
    assert goodbye == {name.split(",")[0] for name in verdict.on}
