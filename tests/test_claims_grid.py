"""The driver grid: what a forked child does, and what becomes of its parent's connection or open transaction."""

import pytest
from verdicts import depends_as_on_file

from lab.judge import judge


@pytest.mark.claim("fork-child-dispose-kills-parent")
def test_dispose(evidence):
    """``dispose()`` in the child ends the parent's pooled connection with every driver that speaks to a server."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-close-false-spares-parent")
def test_close_false(evidence):
    """``dispose(close=False)`` spares the parent until the child collects garbage; then it depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-ordinary-exit-spares-parent")
def test_ordinary_exit(evidence):
    """Whether a child that ends the ordinary way spares the parent depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-old-pool-kept")
def test_old_pool_kept(evidence):
    """A child that keeps the inherited pool does no harm while it lives."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-old-pool-kept-until-exit")
def test_old_pool_kept_until_exit(evidence):
    """An ordinary exit frees the kept pool after all, and then it depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-new-engine-in-child")
def test_new_engine(evidence):
    """Whether a new engine in place of the inherited one spares the parent depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-gc-freeze-before")
def test_gc_freeze(evidence):
    """``gc.freeze()`` before the fork holds off what a collection and an ordinary exit of the child would free."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-pid-guard-spares-parent")
def test_pid_guard(evidence):
    """Whether the documented guard by process id spares the parent depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-descriptor-closed")
def test_descriptor_closed(evidence):
    """A child that closes the inherited descriptor loses, with some drivers, its own next connection."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-descriptor-dev-null")
def test_descriptor_dev_null(evidence):
    """``/dev/null`` over the inherited descriptor spares the parent and serves the child."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-recipe-spares-parent")
def test_recipe(evidence):
    """With the recipes the child has a connection of its own and the parent keeps its one, with every driver."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-one-query-tls")
def test_one_query(evidence):
    """One query in the child ends the parent's connection over TLS, and goes unnoticed without."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-loop-of-its-own")
def test_loop_of_its_own(evidence):
    """With asyncpg and asyncmy a query on an event loop of the child's own fails in the child and harms the parent."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-asyncpg-collected-hangs-parent")
def test_asyncpg_collected(evidence):
    """When a child frees an inherited asyncpg connection, the parent's event loop no longer watches its own."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-session-close-loses-transaction")
def test_session_close(evidence):
    """A child that closes the inherited Session takes the parent's transaction with it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-session-dropped-spares-transaction")
def test_session_dropped(evidence):
    """Whether the parent's transaction survives that the child frees the Session depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-open-transaction-is-not-the-pools")
def test_not_the_pools(evidence):
    """What the child does to the engine does not reach a connection that is checked out."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-ordinary-exit-spares-transaction")
def test_ordinary_exit_in_a_transaction(evidence):
    """Whether the parent's transaction survives an ordinary exit of the child depends on the driver."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-safe-engine-spares-transaction")
def test_fork_safe_engine_in_a_transaction(evidence):
    """The recipe fork_safe_engine spares an open transaction, even when the child drops the Session."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-session-given-up-spares-transaction")
def test_session_given_up(evidence):
    """A Session with one reference too many is never freed, and the parent's transaction lives."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-descriptor-spares-transaction")
def test_descriptor_in_a_transaction(evidence):
    """Taking the descriptor away spares a transaction on a server, but not always one of SQLite."""
    depends_as_on_file(evidence)


@pytest.mark.claim("fork-sqlite-journal")
def test_sqlite(evidence):
    """A child's rollback removes the journal of the parent's SQLite transaction, whose lock holds all the same."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("fork-ordinary-exit-by-release")
def test_by_release(evidence):
    """With SQLAlchemy 2.0 an ordinary exit of the child rolls back the parent's transaction; with 2.1 it does not."""
    assert "reproduced" == judge(evidence).kind
    assert ["2.0"] == sorted({trial.facts["sqlalchemy"][:3] for trial in evidence.arms[0].trials})


@pytest.mark.claim("fork-postfork-recipe-spares-transaction")
def test_postfork_recipe_in_a_transaction(evidence):
    """The recipe multiprocessing_postfork keeps the pool, and not the connection of a Session that the child drops."""
    depends_as_on_file(evidence)
