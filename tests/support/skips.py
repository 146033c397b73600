"""Makes a skipped test a failure where every program that tests need is there, as in CI.

A pytest plugin, in force where LUNGWATCH_TEST_NO_SKIPS is set. What a machine cannot have is no
missing program: a skip for it begins with one of the reasons below.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

_ALLOWED = (
    "this machine",  # its kernel, file systems or C library differ
    "only root",
    "not a git checkout",
    "the shipped package",  # may be older than what is tested
    "no real films",  # they are no part of the project
)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outermost: a mark's reason is known by then
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip for want of a program into a failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get(_VARIABLE):
        assert isinstance(report.longrepr, tuple)
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(_ALLOWED):
            report.outcome = "failed"
            report.longrepr = f"skipped, which {_VARIABLE} forbids: {reason}"
    return report


_VARIABLE = "LUNGWATCH_TEST_NO_SKIPS"
