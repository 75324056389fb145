"""What people are told to do about forks, put to the test."""

import pytest

from lab.judge import judge


@pytest.mark.claim("preload-what-connects")
def test_what_an_import_connects(evidence):
    """Models and sessions made at import leave no connection to inherit; whatever asks the database does."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("tls-certificate-is-not-the-cause")
def test_the_certificate_is_not_the_cause(evidence):
    """With one valid certificate, checked in full, it is the connection before the fork that decides."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("at-fork-handlers-and-programs")
def test_at_fork_handlers_and_programs(evidence):
    """At-fork handlers run for each fork of Python's, and not for a program that is started without preexec_fn."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("at-fork-dispose-and-preexec")
def test_dispose_in_a_handler_meets_preexec_fn(evidence):
    """A dispose() in after_in_child ends the parent's connection when a subprocess is started with preexec_fn."""
    assert "reproduced" == judge(evidence).kind


@pytest.mark.claim("osafterfork-aborts-on-3-13")
def test_osafterfork_under_newer_pythons(evidence):
    """Workers with py-call-osafterfork abort on CPython 3.13 and live on 3.12; the other option serves on both."""
    assert "reproduced" == judge(evidence).kind
