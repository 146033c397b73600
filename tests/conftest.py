"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm
from driver import Site
from packages import without_limits

from worker.model.registry import Registry

pytest_plugins = ["costs", "databases", "skips", "tiers", "trials"]

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_unconfigure() -> None:
    """End what outlives single tests."""
    warm.end()


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Take back what a night or a command within this process made of the umask."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real films, which are no part of the project; skip where it is absent.

    It is looked for in LUNGWATCH_TEST_DATA, then in `shared/data` beside the checkout.
    """
    beside = REPOSITORY.parent / "shared" / "data"
    folder = Path(os.environ.get("LUNGWATCH_TEST_DATA") or beside)
    if not (folder / "originals").is_dir():
        pytest.skip(f"no real films in {folder}; name their folder in LUNGWATCH_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model package that the project ships, in a registry of its own, without limits.

    Tests draw their films, and what the shipped model makes of drawn films it may well refuse.
    """
    registry = Registry(REPOSITORY / "models")
    version = registry.champion()
    assert version is not None, f"{registry.root} names no champion"
    return without_limits(registry.folder(version), tmp_path_factory.mktemp("shipped"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a fresh place on SQLite for a worker, and end its processes."""
    place = Site(tmp_path)
    yield place
    place.end()


@pytest.fixture
def any_site(tmp_path: Path, database_url: str) -> Iterator[Site]:
    """Yield a fresh place on each database."""
    place = Site(tmp_path, database_url)
    yield place
    place.end()
