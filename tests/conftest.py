"""Claims as fixtures, and the rule that nothing is skipped where everything must run."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator

import pytest

from lab.components import Missing
from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import GATE, experiments, load
from lab.judge import judge, swap
from lab.shapes import Evidence


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "claim(id): the test decides the claim of that id")


@pytest.fixture
def evidence(request: pytest.FixtureRequest) -> Evidence:
    """Evidence for the claim that the test names, from a run of its experiment here and now, or the record of one.

    It comes only after the test of the test: with every remedy and control given the hazard's trials, the judge must
    change its mind.
    """
    (claim,) = request.node.get_closest_marker("claim").args
    experiment = experiments()[claim]
    found = experiment.evidence(GATE) if experiment.gated else load(claim)
    verdict = judge(found)
    if verdict.kind == "not run":
        pytest.skip("; ".join(sorted({arm.not_run for arm in found.arms if arm.not_run})))
    assert verdict != judge(swap(found)), "hazard and remedy are not told apart"
    return found


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Database]]:
    """A function from the name of a driver to a running server for it, with TLS if the module's ``TLS`` names it."""
    tls = getattr(request.module, "TLS", ())
    with contextlib.ExitStack() as stack:
        started = functools.cache(lambda kind: stack.enter_context(start(kind, tls=kind in tls)))

        def database_of(name: str) -> Database:
            try:
                arguments(name, running := started(driver(name).database))
            except Missing as missing:
                pytest.skip(str(missing))
            return running

        yield database_of


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item):
    """A test whose fixtures need a component that is not here is skipped, with the line that says how to get it."""
    try:
        return (yield)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """A test that needs a component that is not here is skipped, with the line that says how to get it."""
    try:
        return (yield)
    except Missing as missing:
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome, report.longrepr = "failed", f"skipped, and in CI nothing may be: {report.longrepr}"
    return report
