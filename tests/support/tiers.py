"""Says which tests `make test` leaves out, and which tests one process runs together.

A pytest plugin for two marks. `slow`: left to `make test-slow`; all of tests/system is slow.
`soak`: takes hours, and is run with `--soak` alone.
"""

from __future__ import annotations

import pytest

_SLOW = "system"
# In this order, so that no long test is left for the end, when one process has nothing to do.
_FOLDERS = ("system", "faults", "keras", "process", "unit")
# Here no fixture is shared: the tests of a file need not stay together.
_APART = ("faults",)


@pytest.hookimpl(tryfirst=True)  # before `-m` reads the marks, and xdist the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, put the long ones first, and leave out what only a soak runs."""
    for item in items:
        folder = _folder(item)
        if folder == _SLOW:
            item.add_marker(pytest.mark.slow)
        if folder not in _APART:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=lambda item: _FOLDERS.index(_folder(item)))
    if not config.getoption("--soak"):
        left_out = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _folder(item: pytest.Item) -> str:
    """Return the name of the folder of tests/ that a test lies in."""
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]
