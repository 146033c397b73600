"""Labelled films: found, grouped by patient, split for good, and checked for leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.dataset import Dataset, Shares, Side, patient_of, read_dataset, side_of
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


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("person7_bacteria_24.jpeg", "bacteria-7"),
        ("person7_virus_12.jpeg", "virus-7"),
        ("person7_virus_12_1.jpeg", "virus-7"),
        ("IM-0115-0001.jpeg", "IM-115"),
        ("IM-0115-0001-0002.jpeg", "IM-115"),
        ("NORMAL2-IM-0115-0001.jpeg", "NORMAL2-IM-115"),
        ("scan_115.jpeg", "film-hash"),
        ("my person7_virus_12.jpeg", "film-hash"),
    ],
)
def test_patient_is_series_and_number(name: str, patient: str) -> None:
    """The same number in two series is two patients; a name that tells none is its own."""
    assert patient_of(name, "hash") == patient


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


def test_exact_copies_are_learnt_from_once(tmp_path: Path) -> None:
    """A film that is there twice under one label is kept once, even under two patients' names."""
    fill(tmp_path)
    put(tmp_path, "NORMAL/IM-7001-0001.jpeg", b"same")
    put(tmp_path, "NORMAL/IM-7002-0001.jpeg", b"same")
    dataset = read_dataset(tmp_path, salt=SALT)
    assert dataset.copies_set_aside == ("NORMAL/IM-7002-0001.jpeg",)
    assert len(dataset.scans) == 81


def test_exact_copies_in_the_owners_test_folder_all_count(tmp_path: Path) -> None:
    """The owner's test films are measured as they are: the worker would screen each of them."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", films=3, start=100)
    put(tmp_path, "test/NORMAL/IM-7001-0001.jpeg", b"same")
    put(tmp_path, "test/NORMAL/IM-7002-0001.jpeg", b"same")
    dataset = read_dataset(tmp_path, salt=SALT)
    assert len(dataset.side(Side.TEST)) == 8
    assert dataset.copies_set_aside == ()


def test_one_film_with_two_labels_stops(tmp_path: Path) -> None:
    """The same bytes as NORMAL and as PNEUMONIA cannot be learnt; both names are listed."""
    fill(tmp_path)
    put(tmp_path, "NORMAL/a.jpeg", b"same")
    put(tmp_path, "PNEUMONIA/b.jpeg", b"same")
    with pytest.raises(DataError, match=r"two labels: NORMAL/a\.jpeg, PNEUMONIA/b\.jpeg"):
        read_dataset(tmp_path, salt=SALT)


def test_copy_in_test_and_train_stops(tmp_path: Path) -> None:
    """A test film that was learnt from would flatter; both names are listed."""
    fill(tmp_path, "train/")
    fill(tmp_path, "test/", start=100)
    put(tmp_path, "train/NORMAL/a.jpeg", b"same")
    put(tmp_path, "test/NORMAL/b.jpeg", b"same")
    with pytest.raises(DataError, match=r"outside it: test/NORMAL/b\.jpeg, train/NORMAL/a\.jpeg"):
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
