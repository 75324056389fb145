"""Old data from elsewhere than the Session: a replica, an HTTP cache; and what an idle reader costs others."""

import pytest

from lab.judge import judge


@pytest.mark.claim("replica-read-after-write-stale")
def test_read_after_write_is_stale(evidence):
    """A Session that reads from a standby does not see its own commit, one that reads from the primary does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("replica-refresh-does-not-help")
def test_refresh_does_not_help(evidence):
    """Whatever reads again reads from the standby again."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("replica-sticky-primary-cures")
def test_sticky_primary_cures(evidence):
    """After a write of any kind the recipe reads from the primary, in this Session and the user's next."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("replica-waits-for-lsn")
def test_waits_for_lsn(evidence):
    """A reader that waits until the standby has replayed the write sees it, or is told that it waited in vain."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("read-only-transaction-to-replica")
def test_read_only_transaction(evidence):
    """A standby refuses what writes; the recipe sends it to the primary, but for a select() that calls a function."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("idle-reader-blocks-ddl")
def test_idle_reader_blocks_ddl(evidence):
    """A Session that has read and is not closed keeps an ALTER TABLE waiting, and all who come after that."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("idle-reader-autocommit-does-not")
def test_idle_reader_with_autocommit_does_not(evidence):
    """A reader that ends its transaction in any way, or has none, keeps nobody waiting."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("idle-in-transaction-timeout")
def test_idle_in_transaction_timeout(evidence):
    """The server's timeout frees the queue, and the reader is told so by its next statement."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("http-cache-stale")
def test_http_cache_is_stale(evidence):
    """A cache answers with the old page while the application has the new one, unless the response forbids it."""
    assert "reproduced" == judge(evidence).kind
