"""The claims on what uWSGI does with its workers, mules and memory, and on what it gains behind nginx."""

from __future__ import annotations

import pytest

from lab.judge import judge


@pytest.mark.claim("uwsgi-respawn-inherits")
def test_respawn_inherits(evidence):
    """A worker that the master starts anew, for whatever reason, inherits the master's connection again."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-recycling-says-goodbye")
def test_recycling_says_goodbye(evidence):
    """Once a recycled worker has ended mysqlclient's shared connection, the first request of each later one fails."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-lazy-reload")
def test_lazy_reload(evidence):
    """On SIGHUP ``lazy`` loads the code anew and keeps the old options; without it uWSGI itself begins anew."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-mules-spooler-cron")
def test_mules_spooler_cron(evidence):
    """Mules and the spooler inherit the master's connection as workers do; timers and cron jobs run in workers."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-lazy-apps-empty-mules")
def test_lazy_apps_empty_mules(evidence):
    """Under ``lazy-apps`` nothing loads the application into mules and the spooler unless they are told to."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-lazy-costs-memory")
def test_lazy_costs_memory(evidence):
    """With ``lazy-apps`` every worker keeps a copy of its own of what prefork workers share."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-collection-ends-sharing")
def test_collection_ends_sharing(evidence):
    """One garbage collection in each worker ends most of prefork's sharing, and none after ``gc.freeze()``."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-reading-ends-sharing")
def test_reading_ends_sharing(evidence):
    """Data that workers read stops being shared, ``gc.freeze()`` or not."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-rss-misleads")
def test_rss_misleads(evidence):
    """The sum of the resident sizes of prefork workers is a multiple of the memory that they take."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("uwsgi-protocol-vs-http")
def test_protocol_vs_http(evidence):
    """Behind nginx a request costs uWSGI as much over HTTP as over its own protocol; a slower server costs more."""
    assert "reproduced" == judge(evidence).kind
