"""Behind PgBouncer: which driver survives transaction mode, what leaks between clients, and who waits for whom."""

import pytest

from lab.judge import judge


@pytest.mark.claim("pgbouncer-prepared-statements")
def test_prepared_statements(evidence):
    """psycopg and asyncpg fail on statements that are not there, or already; a setting of each cures it."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-runs-anothers-statement")
def test_runs_anothers_statement(evidence):
    """A client that is moved to another's server connection gets the rows of the other's query, and no error."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-asyncpg-settings")
def test_asyncpg_settings(evidence):
    """SQLAlchemy's cache of size 0 is not enough; asyncpg's is; the name function needs the former, or NullPool."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-autocommit-pg8000")
def test_autocommit_of_pg8000(evidence):
    """Between the messages of one query of pg8000 in AUTOCOMMIT another client is served."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-session-state")
def test_session_state(evidence):
    """What lasts longer than a transaction is lost to who set it, and found by others."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-isolation-level")
def test_isolation_level(evidence):
    """isolation_level with pg8000 is a setting of the server connection; with the other drivers of the transaction."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-advisory-lock")
def test_advisory_lock(evidence):
    """A session's advisory lock excludes nobody in transaction mode, and stays; a transaction's does what it should."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-carries-clients")
def test_carries_clients(evidence):
    """In transaction mode ten server connections serve two hundred clients that stay connected."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-open-transaction-blocks")
def test_open_transaction_blocks(evidence):
    """An open transaction keeps its server connection from the others."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("pgbouncer-own-pool")
def test_own_pool(evidence):
    """What rests in SQLAlchemy's pool keeps a server connection in session mode, and none in transaction mode."""
    assert "reproduced" == judge(evidence).kind
