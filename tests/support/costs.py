"""Measures what tests cost: `pytest --costs FILE` writes the tables of tests/README.md into FILE.

A pytest plugin. The cost of a test is the wall time of its setup, call and teardown. A fixture that
several tests share is counted for the test that made it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

_TESTS_LISTED = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--costs`."""
    parser.addoption("--costs", type=Path, metavar="FILE", help="write what the tests cost")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in the process that hears of every test, not in those that run them for it."""
    file = config.getoption("--costs")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Costs(file))


class _Costs:
    """The seconds of each test, written down when the session ends."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add one phase of a test: its setup, its call or its teardown."""
        self._seconds[report.nodeid] += report.duration

    def pytest_sessionfinish(self) -> None:
        """Write one table for folders, one for files and one for the most expensive tests."""
        folders: defaultdict[str, list[float]] = defaultdict(list)
        files: defaultdict[str, list[float]] = defaultdict(list)
        for test, seconds in self._seconds.items():
            file = test.partition("::")[0]
            folders[_folder(file)].append(seconds)
            files[file].append(seconds)
        tests = {test: [seconds] for test, seconds in self._seconds.items()}
        tables = (
            _table("folder", folders),
            _table("test", tests, listed=_TESTS_LISTED),
            _table("file", files),
        )
        self._file.write_text("\n".join(tables), encoding="utf-8")


def _table(head: str, costs: Mapping[str, list[float]], *, listed: int | None = None) -> str:
    rows = sorted(costs.items(), key=lambda row: -sum(row[1]))[:listed]
    lines = (f"| `{name}` | {len(tests)} | {sum(tests):.1f} |\n" for name, tests in rows)
    return f"| {head} | tests | seconds |\n|---|---|---|\n{''.join(lines)}"


def _folder(file: str) -> str:
    """Return the folder of a file, without the room: `tests/unit/worker`, `tests/process`."""
    return "/".join(file.split("/")[:-1][:3])
