"""Says which tests `make test` leaves out, and puts long tests first.

A pytest plugin for two marks. `slow`: left to `make test-slow`. All of tests/system is slow, and so
is the Postgres half of what runs workers on both databases, but for the tests from end to end.
`soak`: takes hours, and is run with `--soak` alone.
"""

from __future__ import annotations

import pytest

_SLOW = "system"
_WORKERS_ON_EACH = {"any_site", "empty_site", "empty"}  # fixtures
_ON_BOTH = "test_end_to_end"
# In this order, so that no long test is left for the end, when one process has nothing to do.
_FOLDERS = ("system", "faults", "keras", "process", "unit")


@pytest.hookimpl(tryfirst=True)  # before `-m` reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, put the long ones first, and leave out what only a soak runs."""
    for item in items:
        if _folder(item) == _SLOW or _is_second_half(item):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _FOLDERS.index(_folder(item)))
    if not config.getoption("--soak"):
        left_out = [item for item in items if item.get_closest_marker("soak")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _is_second_half(item: pytest.Item) -> bool:
    """Whether this is the same on Postgres as another test on SQLite, with workers."""
    assert isinstance(item, pytest.Function)
    if item.path.stem == _ON_BOTH or _WORKERS_ON_EACH.isdisjoint(item.fixturenames):
        return False
    return "postgres" in item.callspec.id.split("-")


def _folder(item: pytest.Item) -> str:
    """Return the name of the folder of tests/ that a test lies in."""
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]
