"""An archive is screened where it lies: every film once, nothing moved, and again from anywhere."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import films
import pyarrow as pa
import pytest
from databases import execute, query
from driver import Site, wait_for, without_rights
from pyarrow import parquet
from scans import manifest, sighting, verdict, worker

from worker.archive import sources as worklist
from worker.archive.backfill import Backfill
from worker.archive.sources import names_in
from worker.db.engine import Database
from worker.db.scans import Store
from worker.db.sharing import Crew, Sharing
from worker.db.status import read_status
from worker.errors import DatabaseTrouble, DataError
from worker.imaging.preprocessing import FilmLimits
from worker.inbox.folders import Inbox, sighting_of
from worker.reports.tables import write_status, write_status_as_json
from worker.screening.pool import Pool
from worker.service.pipeline import Pipeline, Policy
from worker.settings import ScreenerOptions
from worker.system.folders import Folders
from worker.system.trouble import Trouble
from worker.types import BackfillReport, Changes, ClaimAnswer, Recorded, Sighting, WorkerReport

OPTIONS = ScreenerOptions(count=1, limits=FilmLimits(), screen_seconds=30, memory_mb=768)


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
    assert again == "42 films: 42 had a verdict\n"
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
    assert f"{done} had a verdict" in told
    names = Counter(Path(row["file_name"]).name for row in site.results())
    assert names == Counter(list(pictures))
    assert site.query("SELECT count(*) AS n FROM predictions")[0]["n"] == len(pictures)


def a_list(path: Path, names: Sequence[str | int], column: str = "path") -> Path:
    """Write a Parquet file that lists films."""
    parquet.write_table(pa.table({column: names, "note": ["x"] * len(names)}), path)
    return path


def test_an_archive_that_was_screened_where_it_lies_is_not_reclaimed(site: Site) -> None:
    """Its films have rows, if under their whole paths: after a lost database, say."""
    site.drop(films.small_batch(5))
    site.call("run", "--once")
    site.database_url = f"sqlite:///{site.root}/new.db"
    site.call("backfill", str(site.archive))
    assert site.call("reclaim").stdout.startswith("0 films")


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
    a_list(tmp_path / "numbers.parquet", [1])
    for name, why in {
        "nowhere": "No such file",
        "notes.txt": "neither a folder nor a Parquet file",
        "broken.parquet": "cannot be read",
        "other.parquet": "no column 'path'",
        "numbers.parquet": "is of int64, not of strings",
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
            assert "is in an archive" in site.call("retry", scan, status=1).stdout
        else:
            site.call("explain", scan, "-o", str(site.root / "film.png"))
    assert (site.root / "film.png").stat().st_size > 0


def test_a_worker_beside_it_goes_on_listing(database: Database) -> None:
    """Whoever screens an archive has no part in sharing the inbox, however long it has run."""
    archivist, ward = worker(database, "ward-1"), worker(database, "ward-2")
    archivist.beat(BackfillReport(backfill="/films"), lease_seconds=60)
    ward.beat(WorkerReport(), lease_seconds=60)
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


def a_backfill(
    store: Store, package: Path, archive: Path, note: Callable[[Trouble], Any] = lambda _: None
) -> Backfill:
    """Return one screener on the films of an archive, not begun."""
    return Backfill(
        store=store,
        pool=Pool(archive, OPTIONS),
        package=package,
        policy=Policy(
            settle_seconds=0,
            lease_seconds=60,
            incomplete_seconds=0,
            keep_in_inbox=True,
            one_pass=True,
        ),
        root=archive,
        note=note,
    )


def test_trouble_of_our_own_is_waited_out(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """A database that goes away is told of once, and costs no film."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))
    noted: list[Trouble] = []
    store = Unreliable(database, worker(database).process)
    with a_backfill(store, shipped, archive, noted.append) as screening:
        tally = screening.screen(names_in(archive))
    assert (tally.films, tally.predicted) == (5, 5)
    assert [one.kind for one in noted] == ["database"]


def test_a_share_that_goes_away_costs_no_film(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """Whose turn it is while the archive cannot be reached is screened when it is back."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))
    away, noted = archive.with_name("away"), []

    def names() -> Iterator[str]:
        for number, name in enumerate(list(names_in(archive))):
            if number == 2:
                archive.rename(away)
            yield name

    def back(trouble: Trouble) -> None:
        noted.append(trouble.kind)
        away.rename(archive)

    with a_backfill(worker(database), shipped, archive, back) as screening:
        tally = screening.screen(names())
    assert (tally.films, tally.predicted) == (5, 5)
    assert noted == ["storage"]


def test_a_film_that_goes_after_it_was_listed_is_missing(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """It has no row, so whoever began the backfill is told."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))

    def names() -> Iterator[str]:
        listed = list(names_in(archive))
        yield from listed[:3]
        Path(listed[1]).unlink()
        yield from listed[3:]

    with a_backfill(worker(database), shipped, archive) as screening:
        tally = screening.screen(names())
    assert (tally.films, tally.predicted, tally.missing) == (5, 4, 1)


class Frozen(Store):
    """Once, before its films' verdicts are recorded, its leases run out and something happens."""

    meanwhile: Callable[[], object] | None = None

    @property
    def thawed(self) -> bool:
        """Whether that has happened."""
        return self.meanwhile is None

    def apply(self, changes: Changes, *, keep: bool = False) -> list[Recorded]:
        """Let the leases run out first, if it has not happened yet."""
        if changes.outcomes and self.meanwhile is not None:
            execute(self.database, "UPDATE scans SET lease_until = received_at")
            self.meanwhile()
            self.meanwhile = None
        return super().apply(changes, keep=keep)


class Elsewhere(Inbox):
    """An inbox on a host where nothing of the archive is to be seen."""

    def look(self, name: str) -> Sighting | None:
        """See what lies in the inbox."""
        return None if Path(name).is_absolute() else super().look(name)


def test_a_worker_that_does_not_see_the_archive_leaves_its_films_alone(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """Its inbox's claims that lapsed it withdraws when their files are gone, and no others."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))
    (tmp_path / "inbox").mkdir()
    ward = worker(database, "ward-2", host="another")
    ward.claim([sighting("gone.jpg")], lease_seconds=-1)
    inbox = Pipeline(
        store=ward,
        inbox=Elsewhere(Folders(inbox=tmp_path / "inbox", archive=tmp_path, refused=tmp_path)),
        pool=Pool(archive, OPTIONS),
        policy=Policy(
            settle_seconds=0, lease_seconds=60, incomplete_seconds=0, keep_in_inbox=False
        ),
        manifest_of=lambda _: manifest(),
        on_outcome=lambda _: None,
    )
    store = Frozen(database, worker(database).process)
    store.meanwhile = inbox.recover
    with a_backfill(store, shipped, archive) as screening:
        tally = screening.screen(names_in(archive))
    assert (tally.films, tally.predicted) == (5, 5)
    assert store.thawed
    states = query(database, "SELECT file_name, state, attempt FROM scans")
    assert [row["state"] for row in states if row["file_name"] == "gone.jpg"] == ["withdrawn"]
    kept = [(row["state"], row["attempt"]) for row in states if row["file_name"] != "gone.jpg"]
    assert kept == [("kept", 1)] * 5


@pytest.mark.parametrize("taken_over", [False, True])
def test_films_whose_claims_were_ended_by_others_are_screened_again(
    database: Database,
    shipped: Path,
    tmp_path: Path,
    taken_over: bool,  # noqa: FBT001 - pytest's
) -> None:
    """Frozen past its leases it finds its films withdrawn, or screened by another: none is lost."""
    archive = an_archive(tmp_path / "films", films.small_batch(5))
    other = worker(database, "ward-2")

    def take_over() -> None:
        lapsed = [one for _, one in other.lapsed(limit=10, archive=str(archive))]
        claims = other.claim(lapsed, lease_seconds=60).claims
        other.register_model(manifest())
        other.apply(Changes(outcomes=[verdict(one) for one in claims]), keep=True)

    def withdraw() -> None:
        execute(database, "UPDATE scans SET state = 'withdrawn' WHERE state = 'claimed'")

    store = Frozen(database, worker(database).process)
    store.meanwhile = take_over if taken_over else withdraw
    with a_backfill(store, shipped, archive) as screening:
        tally = screening.screen(names_in(archive))
    assert tally.films == 5
    assert (tally.before > 0) == taken_over
    rows = query(database, "SELECT file_name FROM results")
    assert sorted(row["file_name"] for row in rows) == sorted(names_in(archive))


def test_what_one_that_died_had_in_hand(any_site: Site) -> None:
    """The next screens its films, and lets go of those that are gone; of no other archive's."""
    site = any_site
    archive = an_archive(site.root / "films", films.small_batch(3))
    site.call("backfill", str(archive))  # makes the tables
    names = {}
    for place in ("films", "films-2"):
        for name in ("there.jpg", "gone.jpg"):
            path = site.root / place / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(films.jpeg(films.draw(60)))
            names[path] = sighting_of(str(path), path.stat())
    database = Database(site.database_url)
    dead = worker(database, "dead", host="another")
    seen = [one for one in names.values() if one is not None]
    assert len(dead.claim(seen, lease_seconds=-1).claims) == 4
    database.close()
    for path in names:
        if path.name == "gone.jpg":
            path.unlink()
    assert site.call("backfill", str(archive)).stdout == ("4 films: 1 screened, 3 had a verdict\n")
    states = {row["file_name"]: row["state"] for row in site.query("SELECT * FROM scans")}
    assert {str(path.relative_to(site.root)): states[str(path)] for path in names} == {
        "films/there.jpg": "kept",
        "films/gone.jpg": "withdrawn",
        "films-2/there.jpg": "claimed",
        "films-2/gone.jpg": "claimed",
    }


@pytest.mark.slow
def test_films_that_may_not_be_read(site: Site) -> None:
    """They are tried a few times and counted, and keep nobody, however many they are."""
    archive = an_archive(site.root / "films", films.small_batch(5))
    locked = archive / "a folder that comes first"
    locked.mkdir()
    for number in range(900):  # more than a backfill looks ahead
        (locked / f"{number}.jpg").touch(0o000)
    process = site.start(str(archive), command="backfill", wrapper=without_rights())
    assert process.wait(120) == 1
    assert "905 films: 5 screened, 900 cannot be read\n" in site.log()


def test_a_folder_that_is_gone_or_locked_when_its_turn_comes(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """What lies in the others is screened, and whoever began the backfill is told."""
    archive = an_archive(tmp_path / "films", films.small_batch(6))

    def names() -> Iterator[str]:
        listed = names_in(archive)
        yield next(listed)
        (archive / "year-1").rename(tmp_path / "elsewhere")
        yield from listed

    with a_backfill(worker(database), shipped, archive) as screening:
        tally = screening.screen(names())
    assert (tally.films, tally.predicted, tally.missing) == (5, 4, 1)


def test_a_name_that_cannot_be_looked_at_does_not_end_the_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a share that tells no kinds of files and fails: who looks at it finds out why."""
    archive = an_archive(tmp_path / "films", films.small_batch(2))

    class Failing:
        def __init__(self, entry: os.DirEntry[bytes]) -> None:
            self.name, self.path = entry.name, entry.path

        def is_dir(self, *, follow_symlinks: bool) -> bool:  # noqa: ARG002 - as it is called
            raise OSError(errno.EIO, "Input/output error")

    entries = worklist._entries
    monkeypatch.setattr(worklist, "_entries", lambda folder: [*map(Failing, entries(folder))])
    assert list(names_in(archive)) == [str(archive / "year-0"), str(archive / "year-1")]


def test_a_share_that_goes_away_while_it_is_listed(
    database: Database, shipped: Path, tmp_path: Path
) -> None:
    """It is waited for, and listed on from there."""
    archive = an_archive(tmp_path / "films", films.small_batch(3))  # one in a folder
    away, noted = archive.with_name("away"), []

    def back(trouble: Trouble) -> None:
        noted.append(trouble.kind)
        away.rename(archive)

    listed = names_in(archive)
    first = [next(listed)]
    with a_backfill(worker(database), shipped, archive, back) as screening:
        screening.screen(first)
        archive.rename(away)
        tally = screening.screen(listed)
    assert (tally.films, tally.predicted) == (3, 3)
    assert noted == ["storage"]


def test_a_name_in_a_list_that_no_file_can_have(site: Site) -> None:
    """It is missing, as any other that is not there; the next is screened."""
    archive = an_archive(site.root / "films", films.small_batch(1))
    (found,) = [path for path in archive.rglob("*") if path.is_file()]
    listed = a_list(site.root / "list.parquet", ["a\0b.jpg", "x" * 5000, str(found)])
    done = site.call("backfill", str(listed), status=1)
    assert done.stdout == "3 films: 1 screened, 2 missing\n"


def test_an_archive_of_an_odd_name(
    database: Database, shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What works in a folder whose name is not UTF-8 keeps nobody from asking how things stand."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xfclms"))
    archive = an_archive(root, films.small_batch(1))
    with a_backfill(worker(database), shipped, archive) as screening:
        screening.screen(names_in(archive))
        write_status(read_status(database))
        assert "backfill" in capsys.readouterr().out
        write_status_as_json(read_status(database))
    (told,) = json.loads(capsys.readouterr().out)["workers"]
    assert told["report"]["backfill"].endswith(r"/f\xfclms")
