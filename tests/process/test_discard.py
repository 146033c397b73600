"""Old films go when a person says so: their files alone, and none that is needed or not theirs."""

from __future__ import annotations

import shutil
from pathlib import Path

import films
import pytest
from driver import Site

NOW = "2999-01-01"  # all films are older than that


@pytest.fixture
def screened(any_site: Site) -> Site:
    """Return a place where ten films were archived and two refused, all of one name in two."""
    any_site.drop(films.small_batch(10) | {"text.jpg": b"hello", "empty.jpg": b""})
    any_site.call("run", "--once")
    return any_site


def files(folder: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def places(site: Site) -> dict[int, str | None]:
    """Return where each scan's file lies, by the rows."""
    rows = site.query("SELECT id, filed_as FROM scans")
    return {row["id"]: row["filed_as"] for row in rows}


def test_nothing_goes_unless_it_is_said(screened: Site) -> None:
    """Without --yes it says how much, and does nothing."""
    before = files(screened.root), places(screened)
    told = screened.call("discard", "--older-than", NOW).stdout
    assert told.startswith("10 archived films")
    assert "Dry run" in told
    assert (files(screened.root), places(screened)) == before


def test_rows_stay_and_labelled_films(screened: Site) -> None:
    """Films go, a labelled one does not; every row says what it said, but for the place."""
    rows = {row["scan_id"]: row for row in screened.results()}
    kept = next(number for number, row in rows.items() if row["decision"])
    screened.call("label", str(kept), "NORMAL", "--by", "A. Reader")
    told = screened.call("discard", "--older-than", NOW, "--yes").stdout
    assert told.startswith("9 of 9 archived films")
    assert "1 with a label stay" in told
    assert files(screened.archive) == {Path(str(rows[kept]["filed_as"])).name}
    assert files(screened.refused) == {"text.jpg", "text.jpg.json", "empty.jpg", "empty.jpg.json"}
    for row in screened.results():
        before = rows[row["scan_id"]]
        same = ("file_name", "sha256", "decision", "probability", "refusal_code", "screened_at")
        assert [row[name] for name in same] == [before[name] for name in same]
        gone = row["decision"] and row["scan_id"] != kept
        assert row["filed_as"] == (None if gone else before["filed_as"])
    again = screened.call("discard", "--older-than", NOW, "--yes").stdout
    assert again.startswith("0 of 0 archived films")
    other = next(number for number in rows if number != kept and rows[number]["decision"])
    picture = str(screened.root / "film.png")
    assert "is gone" in screened.call("explain", str(other), "-o", picture, status=2).stderr


def test_refused_films_and_why(screened: Site) -> None:
    """Asked for, they go with the JSON beside them; archived films do not."""
    archived = files(screened.archive)
    told = screened.call("discard", "--older-than", NOW, "--refused", "--yes").stdout
    assert told.startswith("2 of 2 refused films")
    assert files(screened.refused) == set()
    assert files(screened.archive) == archived


def test_only_the_old(screened: Site) -> None:
    """What was screened since stays."""
    told = screened.call("discard", "--older-than", "1d", "--yes").stdout
    assert told.startswith("0 of 0 archived films")
    assert len(files(screened.archive)) == 10
    assert (
        "--older-than is 'soon'"
        in screened.call("discard", "--older-than", "soon", status=2).stderr
    )


def test_what_is_not_theirs_stays(screened: Site) -> None:
    """A file that somebody changed or replaced by a link, and says which scan's it was."""
    first, second, *_ = sorted(path for path in screened.archive.rglob("*") if path.is_file())
    first.write_bytes(b"notes of a person")
    kept = screened.root / "precious.jpg"
    shutil.move(second, kept)
    second.symlink_to(kept)
    done = screened.call("discard", "--older-than", NOW, "--yes", status=1)
    assert done.stderr.count(" stays: ") == 2
    assert done.stdout.startswith("8 of 10")
    assert first.read_bytes() == b"notes of a person"
    assert second.is_symlink()
    assert kept.exists()


def test_a_share_that_is_not_mounted(screened: Site) -> None:
    """An archive that is not there was not discarded: its rows say on where the films lie."""
    before = places(screened)
    away = screened.root / "away"
    shutil.move(screened.archive, away)
    screened.archive.mkdir()
    done = screened.call("discard", "--older-than", NOW, "--yes", status=1)
    assert "is a share not mounted?" in done.stderr
    assert places(screened) == before
    assert len(files(away)) == 10


def test_killed_between_file_and_row(screened: Site) -> None:
    """A file that is gone already is no trouble: the next run makes its row true."""
    first = next(path for path in screened.archive.rglob("*") if path.is_file())
    first.unlink()
    told = screened.call("discard", "--older-than", NOW, "--yes").stdout
    assert told.startswith("10 of 10 archived films")
    assert sum(place is not None for place in places(screened).values()) == 2
