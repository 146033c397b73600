"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.registry import Registry

pytest_plugins = ["databases"]

REPOSITORY = Path(__file__).resolve().parent.parent


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
def shipped() -> Path:
    """Return the model package that the project ships and a new worker serves."""
    registry = Registry(REPOSITORY / "models")
    version = registry.champion()
    assert version is not None, f"{registry.root} names no champion"
    return registry.folder(version)
