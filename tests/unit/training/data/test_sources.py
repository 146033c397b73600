"""Labelled films of the archive: found by readers' labels, checked to be what was screened."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from pathlib import Path

import pytest
from scans import manifest, sighting, verdict, worker

from training.data.dataset import read_dataset
from training.data.patients import Patients, read_pattern
from training.data.sources import Archive, find_films
from worker.db.engine import Database
from worker.db.labels import Asked, Labels
from worker.errors import DataError
from worker.system.folders import Folders
from worker.types import Changes

DAY = "2026-11-23"


@pytest.fixture
def archive(database: Database, database_url: str, tmp_path: Path) -> Archive:
    """An archive of eighty labelled films and one that nobody labelled, all of different bytes."""
    folder = tmp_path / "archive"
    (folder / DAY).mkdir(parents=True)
    store = worker(database)
    store.register_model(manifest())
    labelled = []
    for number in range(81):
        name = f"{number // 2:03}_chest_{number}.jpeg"
        (claim,) = store.claim([sighting(name, inode=number)], lease_seconds=60).claims
        (folder / DAY / name).write_bytes(name.encode())
        digest = hashlib.sha256(name.encode()).hexdigest()
        store.apply(Changes(outcomes=[verdict(claim, sha256=digest)]))
        store.apply(Changes(filed=[(claim.scan_id, f"{DAY}/{name}")]))
        if number < 80:
            label = "NORMAL" if number % 4 < 2 else "PNEUMONIA"
            labelled.append(Asked(scan=str(claim.scan_id), label=label, reader="Dr. A"))
    assert not Labels(database).give(labelled).problems
    return Archive(
        folders=Folders(inbox=tmp_path / "inbox", archive=folder, refused=tmp_path / "refused"),
        database_url=database_url,
    )


def test_labelled_films_of_the_archive_are_found_and_split(archive: Archive) -> None:
    """Each labelled film once, with its label, its patient by the pattern, on that one's side."""
    patients = Patients(pattern=read_pattern(r"^(\d+)_"))
    dataset = read_dataset([], salt="s", archive=archive, patients=patients)
    assert len(dataset.scans) == 80
    assert {scan.path.read_bytes().decode() for scan in dataset.scans} == {
        scan.path.name for scan in dataset.scans
    }
    side: dict[str, str] = {}
    for scan in dataset.scans:
        assert side.setdefault(scan.patient, scan.side) == scan.side
        number = int(scan.path.stem.rsplit("_", 1)[1])
        assert scan.label == ("NORMAL" if number % 4 < 2 else "PNEUMONIA")
        assert scan.patient == f"patient-{number // 2:03}"
        assert "chest" not in scan.name, "a file's name may be a patient's"
    assert dataset.name == dataset.test_name == "archive"


def test_a_corrected_label_is_what_is_learnt(archive: Archive, database: Database) -> None:
    """The night reads the latest, and its digest says that something changed."""
    before = read_dataset([], salt="s", archive=archive)
    first = before.scans[0]
    Labels(database).give([Asked(scan=first.sha256, label="PNEUMONIA", reader="Dr. B")])
    after = read_dataset([], salt="s", archive=archive)
    assert (first.label, after.scans[0].label) == ("NORMAL", "PNEUMONIA")
    assert after.digest != before.digest


def test_a_film_that_is_gone_or_is_not_the_one_screened_is_set_aside(archive: Archive) -> None:
    """Neither stops the night; each is told by its scan."""
    first, second, *_ = sorted((archive.folders.archive / DAY).iterdir())
    first.unlink()
    second.write_bytes(b"another film")
    dataset = read_dataset([], salt="s", archive=archive)
    assert len(dataset.scans) == 78
    gone, changed = dataset.remarks
    assert gone.startswith("set aside: scan 1 (")
    assert gone.endswith("no longer in the archive")
    assert changed.endswith("not the film that was screened")


def test_labelled_films_that_were_kept_where_they_are(
    archive: Archive, database: Database, tmp_path: Path
) -> None:
    """Of the inbox, or of an archive that was backfilled: learnt from while they can be read."""
    archive.folders.inbox.mkdir()
    here, there, locked = (
        archive.folders.inbox / "here.jpg",
        tmp_path / "there.jpg",
        tmp_path / "locked",
    )
    store, labelled = worker(database), []
    for inode, path in enumerate((here, there, locked / "film.jpg"), start=100):
        data = path.name.encode()
        name = path.name if path.parent == archive.folders.inbox else str(path)
        (claim,) = store.claim([sighting(name, inode=inode)], lease_seconds=60).claims
        outcome = verdict(claim, sha256=hashlib.sha256(data).hexdigest())
        store.apply(Changes(outcomes=[outcome]), keep=True)
        labelled.append(Asked(scan=str(claim.scan_id), label="NORMAL", reader="Dr. A"))
        if path.parent != locked:
            path.write_bytes(data)
    locked.write_bytes(b"a file where a folder was")
    assert not Labels(database).give(labelled).problems
    dataset = read_dataset([], salt="s", archive=archive)
    assert len(dataset.scans) == 82
    assert {here, there} < {scan.path for scan in dataset.scans}
    (remark,) = dataset.remarks
    assert remark.startswith("set aside: scan 84 (")
    assert remark.endswith("no longer to be read where it was screened")


@pytest.mark.parametrize("place", ["archive", "inbox"])
@pytest.mark.parametrize("what", ["a pipe", "a link", "a device", "a folder"])
def test_what_has_taken_a_films_name_does_not_hold_the_night_up(
    archive: Archive, database: Database, what: str, place: str
) -> None:
    """A pipe would never end, nor a device; a link leads to what was not screened: set aside."""
    path = archive.folders.archive / DAY / "000_chest_0.jpeg"
    scan = 1
    if place == "inbox":
        archive.folders.inbox.mkdir()
        path = archive.folders.inbox / "kept.jpeg"
        store = worker(database)
        (claim,) = store.claim([sighting(path.name, inode=100)], lease_seconds=60).claims
        digest = hashlib.sha256(path.name.encode()).hexdigest()
        store.apply(Changes(outcomes=[verdict(claim, sha256=digest)]), keep=True)
        asked = Asked(scan=str(claim.scan_id), label="NORMAL", reader="Dr. A")
        assert not Labels(database).give([asked]).problems
        scan = claim.scan_id
        path.write_bytes(path.name.encode())
    elsewhere = path.rename(path.with_name("elsewhere"))
    if what == "a pipe":
        os.mkfifo(path)
        # Whoever opens it as a file reads nothing from it, in place of waiting for a writer.
        threading.Thread(target=lambda: path.open("wb").close(), daemon=True).start()
    elif what == "a folder":
        path.mkdir()
    else:
        path.symlink_to(elsewhere if what == "a link" else "/dev/null")
    (remark,) = find_films([], archive=archive).remarks
    assert remark.startswith(f"set aside: scan {scan} (")
    assert "no longer" in remark


@pytest.mark.parametrize("films", [1, 80])
def test_a_list_of_patients_that_names_other_films(archive: Archive, films: int) -> None:
    """A list that names none of them is not what was meant; one that lacks some is told of."""
    names = [path.name for path in sorted((archive.folders.archive / DAY).iterdir())]
    wrong = Patients(listed={f"NORMAL/{name}": "4711" for name in names})
    with pytest.raises(DataError, match="names none of the 80 films"):
        read_dataset([], salt="s", archive=archive, patients=wrong)
    right = Patients(listed=dict.fromkeys(names[:films], "4711"))
    found = find_films([], archive=archive, patients=right)
    lacking = [f"{80 - films} films are not in the list of patients: each is a patient of its own"]
    assert list(found.remarks) == (lacking if films < 80 else [])


@pytest.mark.parametrize("pattern", [None, re.compile(r"^(person\d+)_")])
def test_a_list_of_patients_that_names_none_where_names_tell(
    tmp_path: Path, pattern: re.Pattern[str] | None
) -> None:
    """Also where series or pattern would tell patients: whoever has a list goes by the list."""
    for path in ("PNEUMONIA/person7_virus_12.jpeg", "NORMAL/IM-0001-0001.jpeg"):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(path.encode())
    wrong = Patients(pattern=pattern, listed={"PNEUMONIA/person7_virus_12.jpeg": "person7"})
    with pytest.raises(DataError, match="names none of the 2 films"):
        find_films([tmp_path], patients=wrong)
    right = Patients(pattern=pattern, listed={"person7_virus_12.jpeg": "person7"})
    assert not find_films([tmp_path], patients=right).remarks


def test_a_tree_and_the_archive_are_one_data_set(archive: Archive, tmp_path: Path) -> None:
    """A film in both is learnt from once; in both with two labels it stops the night."""
    for number in range(20):
        for label in ("NORMAL", "PNEUMONIA"):
            path = tmp_path / "tree" / label / f"IM-{number}{label == 'NORMAL':d}-1.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(path.name.encode())
    alone = read_dataset(tmp_path / "tree", salt="s")
    film = min((archive.folders.archive / DAY).iterdir())
    (tmp_path / "tree/NORMAL/IM-900-1.jpeg").write_bytes(film.read_bytes())
    both = read_dataset(tmp_path / "tree", salt="s", archive=archive)
    assert len(both.scans) == len(alone.scans) + 80
    assert both.name == "tree + archive"
    (name,) = both.copies_set_aside
    assert name.startswith("scan 1 (")
    (tmp_path / "tree/NORMAL/IM-900-1.jpeg").rename(tmp_path / "tree/PNEUMONIA/IM-900-1.jpeg")
    with pytest.raises(DataError, match=r"two labels: PNEUMONIA/IM-900-1\.jpeg, scan 1 \("):
        read_dataset(tmp_path / "tree", salt="s", archive=archive)


def test_no_labels_at_all_says_what_would_do(tmp_path: Path) -> None:
    """Before the first label, and before there is a database."""
    archive = Archive(
        folders=Folders(inbox=tmp_path, archive=tmp_path, refused=tmp_path),
        database_url=f"sqlite:///{tmp_path}/none.db",
    )
    with pytest.raises(DataError, match="--data, or label archived scans"):
        find_films([], archive=archive)
    assert not (tmp_path / "none.db").exists()
