"""Refused films that go back into the inbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from databases import query
from wards import Ward

from worker.archive.retry import send_back
from worker.db.engine import Database


@pytest.fixture
def ward(tmp_path: Path, database: Database) -> Ward:
    """Return a ward that has screened no film yet."""
    return Ward(tmp_path, database)


def places(database: Database) -> list[str | None]:
    """Return where each scan's film lies, as its row says."""
    return [row["filed_as"] for row in query(database, "SELECT filed_as FROM scans ORDER BY id")]


def retry(database: Database, ward: Ward, wanted: str) -> list[tuple[int, str | None]]:
    """Send films back, and return what became of each."""
    return list(send_back(database, ward.inbox, wanted))


def test_a_refused_film_and_its_json_leave_the_folder(ward: Ward, database: Database) -> None:
    """The film is in the inbox again, and its row names no place; a second try finds none."""
    day = ward.inbox.refused / ward.screen("a.jpg", refused=True).partition("/")[0]
    ward.screen("b.jpg")
    assert len(list(day.iterdir())) == 2
    assert retry(database, ward, "a.jpg") == [(1, None)]
    assert list(day.iterdir()) == []
    assert [path.name for path in ward.inbox.folder.iterdir()] == ["a.jpg"]
    assert places(database)[0] is None
    assert retry(database, ward, "a.jpg") == []
    assert retry(database, ward, "b.jpg") == [], "it was not refused"


def test_after_one_that_was_killed(ward: Ward, database: Database) -> None:
    """Where a row was left that names a place that its film has left, the film there goes back."""
    place = ward.screen("a.jpg", refused=True)
    day = ward.inbox.refused / place.partition("/")[0]
    (day / "a.jpg").rename(ward.inbox.folder / "a.jpg")  # and no more
    assert ward.file(ward.record_again("a.jpg", refused=True)) == place
    assert places(database) == [place, place]
    assert retry(database, ward, "1") == [(2, None)]
    assert places(database) == [None, None]
    assert list(day.iterdir()) == []


def test_one_and_not_another_of_its_number(ward: Ward, database: Database) -> None:
    """A film may be called like another's id: `id:2` is that one alone."""
    ward.screen("2", refused=True)
    ward.screen("b.jpg", refused=True)
    assert retry(database, ward, "id:2") == [(2, None)]
    assert [place is None for place in places(database)] == [False, True]
    assert retry(database, ward, "2") == [(1, None)]


def test_a_film_that_is_gone(ward: Ward, database: Database) -> None:
    """Whoever asks is told once; the row names no place then, and no later `retry` fails for it."""
    day = ward.inbox.refused / ward.screen("a.jpg", refused=True).partition("/")[0]
    ward.screen("b.jpg", refused=True)
    (day / "a.jpg").unlink()
    assert retry(database, ward, "a.jpg") == [(1, "its file is no longer in the refused folder")]
    assert retry(database, ward, "a.jpg") == []
    day.rename(day.with_name("away"))  # which says nothing of the films in it
    for _ in range(2):
        [(_, problem)] = retry(database, ward, "b.jpg")
        assert "cannot be moved" in str(problem)
    day.with_name("away").rename(day)
    assert retry(database, ward, "b.jpg") == [(2, None)]
