"""Films that no row names, told from those that a worker is filing at the same moment."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from wards import Ward

from worker.archive.reclaim import unnamed
from worker.db.engine import Database
from worker.errors import StorageTrouble


@pytest.fixture
def ward(tmp_path: Path, database: Database) -> Ward:
    """Return a ward that has screened a film and refused one."""
    ward = Ward(tmp_path, database)
    ward.screen()
    ward.screen(refused=True)
    return ward


def test_what_no_row_names(ward: Ward, database: Database) -> None:
    """A film without a row is found in either folder; what has one, or is no film, is not."""
    assert list(unnamed(database, ward.inbox)) == []
    day = next(ward.inbox.archive.iterdir()).name
    without = [root / day / "b.jpg" for root in (ward.inbox.archive, ward.inbox.refused)]
    for path in (*without, ward.inbox.refused / day / "b.jpg.json", without[0].parent / ".hidden"):
        path.write_bytes(b"x")
    assert list(unnamed(database, ward.inbox)) == without


def test_a_worker_that_files_all_the_while(
    ward: Ward, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A film filed at any moment beside it has its row, and is not taken for one without."""
    without = ward.inbox.archive / ward.screen().partition("/")[0] / "without.jpg"
    without.write_bytes(b"x")
    scandir, reading = os.scandir, Database.reading

    def list_and_screen(path: Any) -> Any:
        ward.screen()
        found = list(scandir(path))
        ward.screen(refused=True)
        return found

    def read_and_screen(self: Database) -> AbstractContextManager[Connection]:
        ward.screen()
        return reading(self)

    monkeypatch.setattr("worker.archive.reclaim.os.scandir", list_and_screen)
    monkeypatch.setattr(Database, "reading", read_and_screen)
    assert list(unnamed(database, ward.inbox)) == [without]


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_film_that_was_moved_and_whose_row_does_not_know(
    ward: Ward, database: Database, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """It cannot be told from one without a row: that is said, and it is not sent back."""
    filing: Callable[[], object] = lambda: ward.move(ward.record())  # noqa: E731
    scandir = os.scandir

    def move_and_list(path: Any) -> Any:
        if path == ward.inbox.archive:
            filing()
        return scandir(path)

    if when == "before":
        filing()
    else:
        monkeypatch.setattr("worker.archive.reclaim.os.scandir", move_and_list)
    with pytest.raises(StorageTrouble, match="films are being filed"):
        list(unnamed(database, ward.inbox))
