"""Who forks, when, with which hook, and what the children inherit."""

import pytest
from verdicts import depends_as_on_file

from lab.judge import judge


@pytest.mark.claim("forkers-share-the-connection")
def test_forkers_share_the_connection(evidence):
    """Whoever forks hands the parent's pooled connection to the children; whoever does not fork shares nothing."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("forkers-tls-makes-it-loud")
def test_tls_makes_it_loud(evidence):
    """Over TLS one of two children that share the connection fails, one job at a time; without TLS none does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("forkers-recipes-cure")
def test_recipes_cure(evidence):
    """Each forker's recipe gives every child a connection of its own and leaves the parent's alive."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("forkers-hook-dispose")
def test_dispose_in_the_hook(evidence):
    """In the forker's hook dispose() ends the parent's connection; close=False spares it, but not with two drivers."""
    depends_as_on_file(evidence)


@pytest.mark.claim("at-fork-handlers-run")
def test_at_fork_handlers(evidence):
    """The handlers of os.register_at_fork run under every forker but uWSGI."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("register-after-fork-runs")
def test_register_after_fork(evidence):
    """multiprocessing's register_after_fork runs in the children of multiprocessing and of Celery only."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("forkers-respawn-inherits")
def test_respawned_children_inherit(evidence):
    """A child that takes another's place inherits the parent's connection again, and the recipes hold for it too."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("celery-worker-process-init")
def test_worker_process_init(evidence):
    """worker_process_init comes once in every prefork child; with threads and gevent never, with solo in the parent."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("preload-lazy-pool")
def test_preload_and_the_lazy_pool(evidence):
    """gunicorn --preload shares nothing while the import does not connect, and whatever connects is shared."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("spawn-and-forkserver-share-nothing")
def test_spawn_and_forkserver(evidence):
    """spawn and forkserver share no connection; servers fork all the same, whatever the start method is."""
    assert "reproduced" == judge(evidence).kind
