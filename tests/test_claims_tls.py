"""What TLS makes of a shared connection, and who read whose answer."""

import pytest

from lab.judge import judge


@pytest.mark.claim("uwsgi-tls-makes-it-loud")
def test_tls_makes_it_loud(evidence):
    """After one query in a forked child the parent's next fails over TLS, and is right without."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-tls-reuses-nonce")
def test_tls_reuses_nonce(evidence):
    """Parent and child encrypt with the same key and nonce: one's plaintext gives away the other's."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-who-read-whose-reply")
def test_who_read_whose_reply(evidence):
    """Under uWSGI a worker reads the answer to another worker's question, and with lazy-apps none does."""
    assert "reproduced" == judge(evidence).kind
