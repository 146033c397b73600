"""What runs the tests: costs, skips that are failures, slow tests, commands in forks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import warm
from driver import Site

pytest_plugins = ["pytester"]

_TESTS = """
import pytest

def test_quick():
    pass

@pytest.mark.slow
def test_by_hand():
    pass

@pytest.mark.soak
def test_of_hours():
    pass

@pytest.mark.skipif(True, reason="this machine has one file system")
def test_elsewhere():
    pass

@pytest.fixture(params=["sqlite", "postgres"])
def any_site(request):
    return request.param

def test_workers(any_site):
    pass

def test_with_a_program():
    pytest.skip("strace is not installed")
"""
_INI = """
[pytest]
addopts = -p no:hypothesispytest
pythonpath = {pythonpath}
markers =
    slow: slow
    soak: soak
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, pytestconfig: pytest.Config) -> pytest.Pytester:
    """Return a small suite that has the plugins, with a folder of unit and of system tests."""
    pythonpath = pytestconfig.rootpath / "tests" / "support"
    pytester.makeini(_INI.format(pythonpath=pythonpath))
    pytester.makeconftest(
        "pytest_plugins = ['costs', 'skips', 'tiers']\n"
        "def pytest_addoption(parser):\n    parser.addoption('--soak', action='store_true')\n"
    )
    for path in ("unit/test_made_up_units.py", "system/test_made_up.py"):
        place = pytester.path / "tests" / path
        place.parent.mkdir(parents=True)
        text = _TESTS if path.startswith("unit") else "def test_unit():\n    pass\n"
        place.write_text(text, encoding="utf-8")
    return pytester


def passed(suite: pytest.Pytester, *arguments: str) -> list[str]:
    """Return the names of the tests that passed, in their order."""
    result = suite.runpytest_inprocess("-v", *arguments)
    return [line.split("::")[1].split()[0] for line in result.outlines if " PASSED" in line]


def test_a_missing_program_is_a_failure_only_where_none_may_be_missing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI no test is left out in silence, but for what a machine cannot have."""
    monkeypatch.delenv("LUNGWATCH_TEST_NO_SKIPS", raising=False)
    suite.runpytest_inprocess().assert_outcomes(passed=5, skipped=2, deselected=1)
    monkeypatch.setenv("LUNGWATCH_TEST_NO_SKIPS", "1")
    strict = suite.runpytest_inprocess()
    strict.assert_outcomes(passed=5, skipped=1, failed=1, deselected=1)
    strict.stdout.fnmatch_lines(["*forbids: strace is not installed*"])


def test_the_two_tiers_are_the_whole(suite: pytest.Pytester) -> None:
    """What is slow is in one run, all else in the other, and no test in both.

    Slow are a folder, tests marked by hand, and workers on the second database. The folder with
    the long tests comes first.
    """
    slow = ["test_unit", "test_by_hand", "test_workers[postgres]"]
    quick = ["test_quick", "test_workers[sqlite]"]
    assert passed(suite, "-m", "slow") == slow
    assert passed(suite, "-m", "not slow") == quick
    whole = passed(suite)
    assert sorted(whole) == sorted(slow + quick)
    assert whole[0] == "test_unit"


def test_a_soak_has_more(suite: pytest.Pytester) -> None:
    """What takes hours is run where it is asked for."""
    assert "test_of_hours" in passed(suite, "--soak")


def test_costs_are_written(suite: pytest.Pytester) -> None:
    """Of every test in each process, under its own name, by folder, test and file."""
    for way in ([], ["--numprocesses", "2", "--dist", "loadfile"]):
        suite.runpytest_inprocess("--costs", "costs.md", *way)
        told = (suite.path / "costs.md").read_text(encoding="utf-8")
        rows = {line.split(" | ")[0].strip("| `"): line for line in told.splitlines()}
        assert rows["tests/unit"].startswith("| `tests/unit` | 6 | 0.")
        assert rows["tests/system"].startswith("| `tests/system` | 1 | 0.")
        assert {
            "tests/unit/test_made_up_units.py",
            "tests/unit/test_made_up_units.py::test_by_hand",
        } < rows.keys()


@pytest.mark.parametrize("words", [["--version"], ["results", "--format", "json"], ["nonsense"]])
def test_a_forked_command_is_like_one_in_a_fresh_interpreter(
    words: list[str], tmp_path: Path
) -> None:
    """It reads the settings of its site, and says the same on both streams and by its status."""
    forked = Site(tmp_path).call(*words, status=None)
    fresh = Site(tmp_path, fresh=True).call(*words, status=None)
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        fresh.returncode,
        fresh.stdout,
        fresh.stderr,
    )


def test_a_forked_command_that_does_not_end_is_killed(site: Site) -> None:
    """A worker that would watch for ever is ended when its time is up, and the test fails."""
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(["run"], environment=site.environment, folder=site.root, seconds=0.1)
    assert site.call("--version").stdout.startswith("lungwatch ")
