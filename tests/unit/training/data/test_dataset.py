"""Labelled films: found, grouped by patient, split for good, and checked for leaks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from training.data.dataset import Dataset, Shares, Side, read_dataset, side_of
from training.data.patients import Patients
from training.data.sources import Owner
from worker.errors import DataError

SALT = "salt"


def put(root: Path, name: str, data: bytes | None = None) -> Path:
    """Write a file whose bytes are its own name unless given: nothing here decodes them."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode() if data is None else data)
    return path


def fill(root: Path, folder: str = "", films: int = 40, start: int = 0) -> None:
    """Write films of both classes, each of a patient of its own."""
    for number in range(start, start + films):
        put(root, f"{folder}NORMAL/IM-{number:04}-0001.jpeg")
        put(root, f"{folder}PNEUMONIA/person{number}_virus_{number}.jpeg")


def sides(dataset: Dataset) -> dict[str, Side]:
    """Return each patient's side, having checked that it has one alone."""
    found: dict[str, Side] = {}
    for scan in dataset.scans:
        assert found.setdefault(scan.patient, scan.side) == scan.side
    return found


def test_owner_test_folder_is_the_test_side(tmp_path: Path) -> None:
    """Train and val are pooled and split again; test is what the owner put there, all of it."""
    fill(tmp_path, "train/", films=60)
    fill(tmp_path, "val/", films=5, start=100)
    fill(tmp_path, "test/", films=7, start=200)
    dataset = read_dataset(tmp_path, salt=SALT)
    assert {scan.name for scan in dataset.side(Side.TEST)} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("test/*/*")
    }
    assert len(dataset.scans) == 2 * (60 + 5 + 7)
    assert dataset.test_name == f"{tmp_path.name}/test"


def test_without_splits_a_test_side_is_split_off(tmp_path: Path) -> None:
    """Class folders alone give all three sides, about as large as the shares say."""
    fill(tmp_path, films=400)
    counts = read_dataset(tmp_path, salt=SALT, shares=Shares(calibration=0.1, test=0.3)).counts()
    assert 40 <= counts["calibration"]["patients"] <= 120
    assert 180 <= counts["test"]["patients"] <= 300
    assert sum(side["patients"] for side in counts.values()) == 800


def test_all_films_of_a_patient_lie_on_one_side(tmp_path: Path) -> None:
    """However many films a patient has, they are never split."""
    for patient in range(60):
        for film in range(4):
            put(tmp_path, f"PNEUMONIA/person{patient}_bacteria_{film}.jpeg")
            put(tmp_path, f"NORMAL/NORMAL2-IM-{patient}-{film}.jpeg")
    dataset = read_dataset(tmp_path, salt=SALT)
    assert len(sides(dataset)) == 120
    assert set(sides(dataset).values()) == set(Side)


def test_patients_keep_their_side_as_data_grows(tmp_path: Path) -> None:
    """New films move nobody: not new patients, not new films of old ones."""
    fill(tmp_path, films=50)
    before = sides(read_dataset(tmp_path, salt=SALT))
    fill(tmp_path, films=200, start=50)
    put(tmp_path, "NORMAL/IM-0003-0002.jpeg")
    after = sides(read_dataset(tmp_path, salt=SALT))
    assert {patient: after[patient] for patient in before} == before


def test_calibration_patients_are_the_same_with_and_without_owner_test() -> None:
    """An owner's test folder that appears later moves no patient between train and calibration."""
    for number in range(200):
        alone = side_of(f"IM-{number}", salt=SALT, shares=Shares(), has_owner_test=False)
        beside = side_of(f"IM-{number}", salt=SALT, shares=Shares(), has_owner_test=True)
        assert beside == (Side.TRAIN if alone == Side.TEST else alone)


def test_salt_decides_the_split(tmp_path: Path) -> None:
    """Another salt splits otherwise, and the digest says that it did."""
    fill(tmp_path, films=50)
    one, other = (read_dataset(tmp_path, salt=salt) for salt in ("one", "other"))
    assert sides(one) != sides(other)
    assert one.digest != other.digest


def test_digest_follows_films_and_labels_but_not_names(tmp_path: Path) -> None:
    """The digest is of what is learnt: bytes, labels and sides. A renamed folder is the same."""
    fill(tmp_path / "a", films=50)
    before = read_dataset(tmp_path / "a", salt=SALT).digest
    (tmp_path / "a").rename(tmp_path / "b")
    assert read_dataset(tmp_path / "b", salt=SALT).digest == before
    put(tmp_path / "b", "NORMAL/IM-0900-0001.jpeg")
    assert read_dataset(tmp_path / "b", salt=SALT).digest != before


def patient_on(side: Side, start: int = 7000) -> int:
    """Return the number of a patient of the series IM who lies on a side."""
    numbers = itertools.count(start)
    return next(
        number
        for number in numbers
        if side_of(f"IM-{number}", salt=SALT, shares=Shares(), has_owner_test=False) is side
    )


def test_exact_copies_are_learnt_from_once(tmp_path: Path) -> None:
    """A film that is there twice under one label is kept once, even under two patients' names."""
    fill(tmp_path)
    one = patient_on(Side.TRAIN)
    other = patient_on(Side.TRAIN, one + 1)
    put(tmp_path, f"NORMAL/IM-{one}-0001.jpeg", b"same")
    put(tmp_path, f"NORMAL/IM-{other}-0001.jpeg", b"same")
    dataset = read_dataset(tmp_path, salt=SALT)
    assert dataset.copies_set_aside == (f"NORMAL/IM-{other}-0001.jpeg",)
    assert len(dataset.scans) == 81


@pytest.mark.parametrize("other", [Side.CALIBRATION, Side.TEST])
def test_exact_copies_on_two_sides_stop(tmp_path: Path, other: Side) -> None:
    """One film under two patients' names, whom the hash parts, would be on both sides."""
    fill(tmp_path)
    names = [f"NORMAL/IM-{patient_on(side)}-0001.jpeg" for side in (Side.TRAIN, other)]
    for name in names:
        put(tmp_path, name, b"same")
    with pytest.raises(DataError, match=f"one film in {other} and in train") as caught:
        read_dataset(tmp_path, salt=SALT)
    assert all(name in str(caught.value) for name in names)
    dataset = read_dataset(tmp_path, salt=SALT, drop_conflicts=True)
    (remark,) = dataset.remarks
    assert remark.startswith(f"set aside: {names[0]}, for one film in {other} and in train")
    assert {scan.side for scan in dataset.scans if scan.name in names} == {other}


def test_conflicts_are_dropped_when_told_to_and_each_is_said(tmp_path: Path) -> None:
    """What contradicts is gone, with a line for each film, and the rest is as without it."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", start=100)
    clean = read_dataset(tmp_path, salt=SALT)
    put(tmp_path, "train/NORMAL/a.jpeg", b"two labels")
    put(tmp_path, "train/PNEUMONIA/b.jpeg", b"two labels")
    put(tmp_path, "train/NORMAL/IM-0100-0002.jpeg")
    (tmp_path / "train/NORMAL/copy.jpeg").write_bytes(b"test/NORMAL/IM-0103-0001.jpeg")
    dataset = read_dataset(tmp_path, salt=SALT, drop_conflicts=True)
    assert dataset.scans == clean.scans
    assert dataset.digest == clean.digest
    said = sorted(remark.split(",")[0] for remark in dataset.remarks)
    names = ("IM-0100-0002.jpeg", "a.jpeg", "copy.jpeg")
    assert said == sorted(
        [
            *(f"set aside: train/NORMAL/{name}" for name in names),
            "set aside: train/PNEUMONIA/b.jpeg",
        ]
    )


def test_several_trees_are_one_data_set(tmp_path: Path) -> None:
    """A tree with its owner's test folder and one without: each as its owner left it."""
    fill(tmp_path / "one", "train/")
    fill(tmp_path / "one", "test/", start=100)
    fill(tmp_path / "two", start=200, films=100)
    dataset = read_dataset([tmp_path / "one", tmp_path / "two"], salt=SALT)
    side = {scan.path.relative_to(tmp_path).as_posix(): scan.side for scan in dataset.scans}
    assert len(side) == 2 * (40 + 40 + 100)
    for name, on in side.items():
        assert on is Side.TEST or not name.startswith("one/test/"), name
        assert on is not Side.TEST or not name.startswith("one/train/"), name
    alone = read_dataset(tmp_path / "two", salt=SALT)
    assert {scan.path: scan.side for scan in alone.scans}.items() <= {
        scan.path: scan.side for scan in dataset.scans
    }.items()
    assert dataset.name == "one + two"
    assert dataset.test_name == "one/test + two"


def test_a_patient_follows_the_owners_split_into_other_trees(tmp_path: Path) -> None:
    """Another film of a test patient, found elsewhere, is never learnt from."""
    fill(tmp_path / "one", "train/")
    fill(tmp_path / "one", "test/", start=100)
    fill(tmp_path / "two", start=0, films=200)
    for tree in (tmp_path / "two").rglob("*.jpeg"):
        tree.write_bytes(b"another film of " + tree.name.encode())
    dataset = read_dataset([tmp_path / "one", tmp_path / "two"], salt=SALT)
    found = sides(dataset)
    assert all(found[f"IM-{number}"] is Side.TEST for number in range(100, 140))
    assert all(found[f"IM-{number}"] is not Side.TEST for number in range(40))


def test_a_list_of_patients_keeps_their_films_together(tmp_path: Path) -> None:
    """Films whose names tell nothing are grouped by the list; a copy of a known film is known."""
    fill(tmp_path)
    for number in range(60):
        put(tmp_path, f"NORMAL/scan{number}.jpeg")
    listed = {f"scan{number}.jpeg": str(number % 3) for number in range(60)}
    dataset = read_dataset(tmp_path, salt=SALT, patients=Patients(listed=listed))
    found = {scan.patient: scan.side for scan in dataset.scans if "scan" in scan.name}
    assert found.keys() == {"patient-0", "patient-1", "patient-2"}
    sides(dataset)
    put(tmp_path, "NORMAL/nameless.jpeg", b"NORMAL/IM-0003-0001.jpeg")
    again = read_dataset(tmp_path, salt=SALT)
    assert again.copies_set_aside == ("NORMAL/nameless.jpeg",)
    assert sides(again).keys() >= {"IM-3"}


def test_exact_copies_in_the_owners_test_folder_all_count(tmp_path: Path) -> None:
    """The owner's test films are measured as they are: the worker would screen each of them."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", films=3, start=100)
    put(tmp_path, "test/NORMAL/IM-7001-0001.jpeg", b"same")
    put(tmp_path, "test/NORMAL/IM-7002-0001.jpeg", b"same")
    dataset = read_dataset(tmp_path, salt=SALT)
    assert len(dataset.side(Side.TEST)) == 8
    assert dataset.copies_set_aside == ()


@pytest.mark.parametrize("again", [False, True])
def test_a_film_in_two_test_folders_is_measured_once(tmp_path: Path, *, again: bool) -> None:
    """This year's folder has last year's test films too, or a folder is named twice by mistake."""
    theirs, new = tmp_path / "2025", tmp_path / "2026"
    for year in (theirs, new):
        fill(year, "train/", start=50)
        fill(year, "test/", films=3, start=100)
    put(new, "test/NORMAL/IM-0900-0001.jpeg", b"new")
    trees = [theirs, theirs] if again else [theirs, new]
    dataset = read_dataset(trees, salt=SALT)
    tested = dataset.side(Side.TEST)
    assert len(tested) == (6 if again else 7)
    assert sum(theirs in one.path.parents for one in tested) == 6
    assert read_dataset(trees[::-1], salt=SALT).digest == dataset.digest


@pytest.mark.parametrize("order", [1, -1])
def test_a_copy_elsewhere_of_a_test_film_does_not_count_beside_it(
    tmp_path: Path, order: int
) -> None:
    """In whatever order the folders are named: each test film is measured once."""
    other, theirs = tmp_path / "other", tmp_path / "theirs"
    fill(other)
    fill(theirs, "train/", start=50)
    fill(theirs, "test/", films=3, start=100)
    put(other, "NORMAL/IM-0101-0001.jpeg", b"test/NORMAL/IM-0101-0001.jpeg")
    dataset = read_dataset([other, theirs][::order], salt=SALT)
    assert sum(scan.owner is Owner.TEST for scan in dataset.scans) == 6
    (aside,) = dataset.copies_set_aside
    assert aside == str(other / "NORMAL/IM-0101-0001.jpeg")


def test_one_film_with_two_labels_stops(tmp_path: Path) -> None:
    """The same bytes as NORMAL and as PNEUMONIA cannot be learnt; both names are listed."""
    fill(tmp_path)
    put(tmp_path, "NORMAL/a.jpeg", b"same")
    put(tmp_path, "PNEUMONIA/b.jpeg", b"same")
    with pytest.raises(DataError, match=r"two labels: NORMAL/a\.jpeg, PNEUMONIA/b\.jpeg"):
        read_dataset(tmp_path, salt=SALT)


def test_copy_in_test_and_outside_it_stops(tmp_path: Path) -> None:
    """A test film that was learnt from would flatter; both names are listed."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", start=100)
    put(tmp_path, "train/NORMAL/a.jpeg", b"same")
    put(tmp_path, "test/NORMAL/b.jpeg", b"same")
    with pytest.raises(
        DataError, match=r"one film in test and outside it: test/NORMAL/b\.jpeg, train/NORMAL/a"
    ):
        read_dataset(tmp_path, salt=SALT)


def test_patient_in_test_and_train_stops(tmp_path: Path) -> None:
    """Two films of one patient on both sides of the owner's split are a leak as well."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", start=100)
    put(tmp_path, "test/NORMAL/IM-0003-0002.jpeg")
    with pytest.raises(DataError, match=r"patient IM-3 in test and outside it"):
        read_dataset(tmp_path, salt=SALT)


def test_a_long_list_of_conflicts_is_cut_short(tmp_path: Path) -> None:
    """Labels swapped wholesale give a list that can be read, and say how long it really is."""
    fill(tmp_path)
    for number in range(50):
        put(tmp_path, f"NORMAL/a{number:02}.jpeg", b"%d" % number)
        put(tmp_path, f"PNEUMONIA/b{number:02}.jpeg", b"%d" % number)
    with pytest.raises(DataError, match="and 30 more") as caught:
        read_dataset(tmp_path, salt=SALT)
    assert len(str(caught.value).splitlines()) == 22


def test_an_empty_folder_says_what_was_expected(tmp_path: Path) -> None:
    """A wrong --data is told what a right one looks like."""
    with pytest.raises(DataError, match=r"no films under .* expected NORMAL/\*\.jpeg"):
        read_dataset(tmp_path, salt=SALT)


def test_a_side_without_a_class_stops(tmp_path: Path) -> None:
    """A test folder of one class alone cannot measure anything."""
    fill(tmp_path, "train/")
    put(tmp_path, "test/NORMAL/only.jpeg")
    with pytest.raises(DataError, match="the test side has no PNEUMONIA film"):
        read_dataset(tmp_path, salt=SALT)


def test_what_is_no_film_is_passed_over(tmp_path: Path) -> None:
    """Notes, folders and the hidden doubles that a Mac leaves in archives are not films."""
    fill(tmp_path)
    put(tmp_path, "NORMAL/._IM-0001-0001.jpeg")
    put(tmp_path, "NORMAL/.DS_Store")
    put(tmp_path, "NORMAL/notes.txt")
    put(tmp_path, "NORMAL/folder.jpeg/inside.jpeg")
    put(tmp_path, "NORMAL/upper.JPG")
    names = {scan.name for scan in read_dataset(tmp_path, salt=SALT).scans}
    assert len(names) == 81
    assert "NORMAL/upper.JPG" in names


def test_public_data_splits_without_leak(data: Path) -> None:
    """The real folder: the counts of its description, and no patient or film on two sides."""
    dataset = read_dataset(data / "chest_xray", salt="lungwatch")
    sides(dataset)
    counts = dataset.counts()
    assert (counts["test"]["NORMAL"], counts["test"]["PNEUMONIA"]) == (224, 360)
    assert len(dataset.scans) + len(dataset.copies_set_aside) == 1117 + 3515 + 16 + 584
    where: dict[str, Side] = {}
    for scan in dataset.scans:
        assert where.setdefault(scan.sha256, scan.side) == scan.side
