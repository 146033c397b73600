"""An archive is screened where it lies: every film once, nothing moved, and again from anywhere."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import films
import pyarrow as pa
import pytest
from driver import Site, wait_for
from pyarrow import parquet
from scans import worker

from worker.backfill import Backfill
from worker.database import Database
from worker.errors import DatabaseTrouble, DataError
from worker.pipeline import Policy
from worker.pool import Pool
from worker.preprocessing import Limits
from worker.records import ClaimAnswer, Sighting
from worker.sharing import Crew, Sharing
from worker.store import Store
from worker.trouble import Trouble
from worker.worklist import names_in


def an_archive(folder: Path, pictures: Mapping[str, bytes]) -> Path:
    """Write films into folders within folders, and return the outermost."""
    for number, (name, data) in enumerate(pictures.items()):
        place = folder / f"year-{number % 3}" / "ward" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder


def standing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Return everything below a folder, as it stands."""
    return {
        str(path): (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_size)
        for path in folder.rglob("*")
    }


def test_an_archive_gets_rows_and_stays_as_it_is(any_site: Site) -> None:
    """Every film has a row under its whole path; a second time there is nothing left to do."""
    site = any_site
    pictures = films.small_batch(40)
    archive = an_archive(site.root / "films", pictures | {"text.jpg": b"hello", "empty.jpg": b""})
    (archive / "year-0" / ".hidden.jpg").write_bytes(b"x")
    (archive / "link.jpg").symlink_to(archive / "year-0")
    before = standing(archive)
    told = site.call("backfill", str(archive)).stdout
    assert told == "42 films: 40 screened, 2 refused\n"
    assert standing(archive) == before
    rows = site.results()
    assert Counter(Path(row["file_name"]).name for row in rows) == Counter(
        [*pictures, "text.jpg", "empty.jpg"]
    )
    assert all(Path(row["file_name"]).is_file() for row in rows)
    assert {row["refusal_code"] for row in rows} == {None, "not_a_jpeg", "empty"}
    again = site.call("backfill", str(archive)).stdout
    assert again == "42 films: 42 had their verdict\n"
    assert site.results() == rows


def test_the_rows_are_those_of_the_worker(site: Site) -> None:
    """The same film gets the same numbers, dropped into an inbox or found in an archive."""
    pictures = films.small_batch(20)
    archive = an_archive(site.root / "films", pictures)
    site.call("backfill", str(archive))
    dropped = Site(site.root / "ward")
    dropped.drop(pictures)
    dropped.call("run", "--once")

    def numbers(place: Site) -> dict[str, Any]:
        names = ("sha256", "decision", "probability", "confidence", "threshold", "model_version")
        return {
            Path(row["file_name"]).name: [row[name] for name in names] for row in place.results()
        }

    assert numbers(site) == numbers(dropped)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_stopped_half_way_it_goes_on(any_site: Site, number: signal.Signals) -> None:
    """However it ended, the next ends it: every film has one row, and one prediction."""
    site = any_site
    site.settings |= {"SCREENERS": "1"}
    pictures = films.small_batch(600)
    archive = an_archive(site.root / "films", pictures)
    begun = site.start(str(archive), command="backfill")
    wait_for(lambda: site.finished() > 50, every=0.01)
    status = site.stop(begun, number)
    assert status == (1 if number == signal.SIGTERM else -number)
    done = site.finished()
    assert 50 < done < len(pictures), "it was to be stopped half-way"
    told = site.call("backfill", str(archive)).stdout
    assert f"{done} had their verdict" in told
    names = Counter(Path(row["file_name"]).name for row in site.results())
    assert names == Counter(list(pictures))
    assert site.query("SELECT count(*) AS n FROM predictions")[0]["n"] == len(pictures)


def a_list(path: Path, names: Sequence[str], column: str = "path") -> Path:
    """Write a Parquet file that lists films."""
    parquet.write_table(pa.table({column: names, "note": ["x"] * len(names)}), path)
    return path


def test_films_that_a_list_names(site: Site) -> None:
    """A list's films are found, by whole path or from where it lies; what is gone is told."""
    archive = an_archive(site.root / "films", films.small_batch(6))
    found = sorted(path for path in archive.rglob("*") if path.is_file())
    names = [str(found[0]), *(str(path.relative_to(site.root)) for path in found[1:4]), "gone.jpg"]
    done = site.call("backfill", str(a_list(site.root / "list.parquet", names)), status=1)
    assert done.stdout == "5 films: 4 screened, 1 missing\n"
    assert {row["file_name"] for row in site.results()} == {str(path) for path in found[:4]}


def test_what_is_no_archive(tmp_path: Path) -> None:
    """A wrong path, or a list that lists nothing, is told in a line before anything is done."""
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.parquet").write_text("hello")
    a_list(tmp_path / "other.parquet", ["a.jpg"], column="file")
    for name, why in {
        "nowhere": "No such file",
        "notes.txt": "neither a folder nor a Parquet file",
        "broken.parquet": "cannot be read",
        "other.parquet": "no column 'path'",
    }.items():
        with pytest.raises(DataError, match=why):
            names_in(tmp_path / name)


def test_films_that_are_explained_and_tried_again_where_they_lie(site: Site) -> None:
    """`explain` finds a film of an archive by its row; `retry` moves nothing there."""
    archive = an_archive(site.root / "films", films.batch(1) | {"text.jpg": b"hello"})
    site.call("backfill", str(archive))
    for row in site.results():
        scan = str(row["scan_id"])
        if row["refusal_code"]:
            assert "lies in an archive" in site.call("retry", scan, status=1).stdout
        else:
            site.call("explain", scan, "-o", str(site.root / "film.png"))
    assert (site.root / "film.png").stat().st_size > 0


def test_a_worker_beside_it_goes_on_listing(database: Database) -> None:
    """Whoever screens an archive has no part in sharing the inbox, however long it has run."""
    archivist, ward = worker(database, "ward-1"), worker(database, "ward-2")
    archivist.beat({"backfill": "/films"}, lease_seconds=60)
    ward.beat({}, lease_seconds=60)
    assert Sharing(ward).crew(lease_seconds=60) == Crew(others=0, lists=True)


class Unreliable(Store):
    """A database that is away for the first claims."""

    left = 2

    def claim(self, sightings: Sequence[Sighting], *, lease_seconds: float) -> ClaimAnswer:
        """Fail a few times, as long as there is something to claim."""
        if sightings and self.left:
            self.left -= 1
            raise DatabaseTrouble("away")
        return super().claim(sightings, lease_seconds=lease_seconds)


def test_trouble_of_our_own_is_waited_out(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """A database that goes away is told of once, and costs no film."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))
    noted: list[Trouble] = []
    screening = Backfill(
        store=Unreliable(database, worker(database).process),
        pool=Pool(inbox=archive, limits=Limits(), count=1, screen_seconds=30, memory_mb=768),
        package=shipped,
        policy=Policy(lease_seconds=60, incomplete_seconds=0, keep_in_inbox=True, told_once=True),
        root=archive,
        note=noted.append,
    )
    with screening:
        tally = screening.screen(names_in(archive))
    assert (tally.films, tally.predicted) == (5, 5)
    assert [one.kind for one in noted] == ["database"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_film_that_may_not_be_read(site: Site) -> None:
    """It is tried a few times, counted, and keeps nobody."""
    archive = an_archive(site.root / "films", films.small_batch(2))
    next(path for path in archive.rglob("*") if path.is_file()).chmod(0)
    done = site.call("backfill", str(archive), status=1)
    assert "1 screened" in done.stdout
    assert "1 cannot be read" in done.stdout
