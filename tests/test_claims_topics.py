"""uWSGI's other switches, servers that spawn, the end of a worker, and objects and Sessions kept for later."""

import pytest

from lab.judge import judge


@pytest.mark.claim("uwsgi-hook-post-fork-workers-only")
def test_hook_post_fork(evidence):
    """uWSGI's own hook runs in workers only, after @postfork, which runs in the mule and the spooler as well."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-hook-has-no-python")
def test_hook_actions(evidence):
    """An action that would call Python is not found and ends each worker; rpc calls it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-import-before-the-fork")
def test_imports(evidence):
    """import and shared-import share the connection of their module, and lazy-apps mends the first alone."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-need-app-ends-it")
def test_need_app(evidence):
    """Without an application uWSGI answers errors; with need-app it ends."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-background-threads")
def test_background_threads(evidence):
    """A thread begun at import works in the master; one begun after the fork works in the worker."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("servers-that-spawn-import-in-each")
def test_servers_that_spawn(evidence):
    """Workers of uvicorn and granian import for themselves; those of gunicorn --preload inherit."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("exit-without-dispose-aborts")
def test_exit_without_dispose(evidence):
    """MariaDB logs an aborted connection when a worker ends with its pool full; with dispose() it does not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("exit-in-a-transaction-unexpected-eof")
def test_exit_in_a_transaction(evidence):
    """PostgreSQL logs an unexpected EOF of an open transaction only, which dispose() does not reach."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("kept-object-in-a-global")
def test_kept_in_a_global(evidence):
    """A kept object is old, detached or holds a connection; its primary key is none of it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("kept-object-merge-writes-it-back")
def test_merge_writes_it_back(evidence):
    """merge() of an old object undoes another's commit, unless there is a version counter."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("kept-object-merge-load-false")
def test_merge_without_loading(evidence):
    """merge(load=False) asks nobody and takes old values for new ones."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("closed-session-reopens")
def test_closed_session(evidence):
    """A closed Session begins anew and leaks its connection; with close_resets_only=False it raises."""
    assert "reproduced" == judge(evidence).kind
