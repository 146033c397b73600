"""Find labelled films, group them by patient, split them for good, and check for leaks.

Films lie in class-per-folder trees: the Kaggle layout, `<split>/<class>/*.jpeg`, or
`<class>/*.jpeg` alone. A `test` folder that the owner made is respected; everything else is split
by a salted hash of the patient, so that a patient never changes side as data grows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from worker.errors import DataError
from worker.model import NEGATIVE, POSITIVE

CLASSES = (NEGATIVE, POSITIVE)
_OWNER_SPLITS = ("train", "val", "test")
_SUFFIXES = {".jpeg", ".jpg"}
_LISTED = 20  # of the conflicts found, how many an error lists
# The four series of names in the public data set. Numbers of different series are unrelated.
_SERIES = {
    "bacteria": re.compile(r"^person(\d+)_bacteria_"),
    "virus": re.compile(r"^person(\d+)_virus_"),
    "IM": re.compile(r"^IM-(\d+)-"),
    "NORMAL2-IM": re.compile(r"^NORMAL2-IM-(\d+)-"),
}


class Side(StrEnum):
    """What a film is used for."""

    TRAIN = "train"  # the weights
    CALIBRATION = "calibration"  # temperature, threshold, review band
    TEST = "test"  # the numbers in evaluation.json, and nothing else


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How much of the patients the hash gives to each side; training gets the rest."""

    calibration: float = 0.15
    test: float = 0.20  # only where the owner made no test folder


@dataclass(frozen=True, kw_only=True)
class LabelledScan:
    """One film with the label it was given and the side it lies on."""

    path: Path
    name: str  # relative to the data folder
    label: str  # NORMAL or PNEUMONIA
    sha256: str  # of the file's bytes
    patient: str  # the series and number, or the film itself where the name tells no patient
    side: Side


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All labelled scans, each on its side."""

    name: str  # of the data folder
    test_name: str  # where the test films are from, in words
    test_note: str  # how the test side came about, in a sentence
    scans: tuple[LabelledScan, ...]  # sorted by name
    copies_set_aside: tuple[str, ...]  # names of exact copies of a film that is kept
    digest: str  # SHA-256 over every film's hash, label and side

    def side(self, side: Side) -> list[LabelledScan]:
        """Return the scans of one side, in order of name."""
        return [scan for scan in self.scans if scan.side == side]

    def counts(self) -> dict[str, dict[str, int]]:
        """Return films by side and class, and patients by side."""
        films = Counter((scan.side, scan.label) for scan in self.scans)
        patients = Counter(side for side, _ in {(scan.side, scan.patient) for scan in self.scans})
        return {
            side.value: {
                **{label: films[side, label] for label in CLASSES},
                "patients": patients[side],
            }
            for side in Side
        }


@dataclass(frozen=True, kw_only=True)
class _Found:
    path: Path
    name: str
    label: str
    sha256: str
    patient: str
    owner_test: bool


def read_dataset(root: Path, *, salt: str, shares: Shares | None = None) -> Dataset:
    """Find every labelled film under `root` and put it on its side.

    Args:
        root: holds `train`, `val` and `test` folders of class folders, or class folders alone.
        salt: goes into the hash that splits patients; the same salt gives the same split.
        shares: of the sides; the defaults where none are given.

    Raises:
        DataError: there are no films, a side lacks a class, or the labels and splits contradict
            each other (one film with two labels, a copy or a patient on both sides). The message
            lists what was found.
    """
    found = _find(root)
    _check_conflicts(found)
    found, copies = _set_copies_aside(found)
    has_owner_test = any(film.owner_test for film in found)
    scans = tuple(
        LabelledScan(
            path=film.path,
            name=film.name,
            label=film.label,
            sha256=film.sha256,
            patient=film.patient,
            side=Side.TEST
            if film.owner_test
            else side_of(
                film.patient,
                salt=salt,
                shares=shares or Shares(),
                has_owner_test=has_owner_test,
            ),
        )
        for film in found
    )
    dataset = Dataset(
        name=root.resolve().name,
        test_name=f"{root.resolve().name}{'/test' if has_owner_test else ''}",
        test_note="The owner of the data set these films apart."
        if has_owner_test
        else "These are all films of patients that a hash of the patient chose.",
        scans=scans,
        copies_set_aside=tuple(copies),
        digest=_digest(scans),
    )
    _check_sides(dataset)
    return dataset


def patient_of(file_name: str, sha256: str) -> str:
    """Return the patient a file name tells of, or the film itself.

    >>> patient_of("person7_virus_12.jpeg", "ab")
    'virus-7'
    >>> patient_of("person7_bacteria_24.jpeg", "cd")
    'bacteria-7'
    >>> patient_of("scan.jpeg", "ef")
    'film-ef'
    """
    for series, pattern in _SERIES.items():
        if match := pattern.match(file_name):
            return f"{series}-{int(match[1])}"
    return f"film-{sha256}"


def side_of(patient: str, *, salt: str, shares: Shares, has_owner_test: bool) -> Side:
    """Return a patient's side, by hash alone: no other film or patient has a say in it."""
    digest = hashlib.sha256(f"{salt}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < shares.calibration:
        return Side.CALIBRATION
    if not has_owner_test and place >= 1 - shares.test:
        return Side.TEST
    return Side.TRAIN


def _find(root: Path) -> list[_Found]:
    splits = [name for name in _OWNER_SPLITS if (root / name).is_dir()]
    folders = [root / split for split in splits] or [root]
    found = [
        _read(path, root, label, owner_test=folder.name == "test" and bool(splits))
        for folder in folders
        for label in CLASSES
        for path in _films(folder / label)
    ]
    if not found:
        raise DataError(
            f"no films under {root}: expected {NEGATIVE}/*.jpeg and {POSITIVE}/*.jpeg, there or "
            f"in {', '.join(_OWNER_SPLITS)}"
        )
    return sorted(found, key=lambda film: film.name)


def _films(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _read(path: Path, root: Path, label: str, *, owner_test: bool) -> _Found:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return _Found(
        path=path,
        name=path.relative_to(root).as_posix(),
        label=label,
        sha256=sha256,
        patient=patient_of(path.name, sha256),
        owner_test=owner_test,
    )


def _check_conflicts(found: list[_Found]) -> None:
    copies: dict[str, list[_Found]] = defaultdict(list)
    patients: dict[str, list[_Found]] = defaultdict(list)
    for film in found:
        copies[film.sha256].append(film)
        patients[film.patient].append(film)
    conflicts = [
        f"one film with two labels: {_names(films)}"
        for films in copies.values()
        if len({film.label for film in films}) > 1
    ]
    conflicts += [
        f"one film in test and outside it: {_names(films)}"
        for films in copies.values()
        if len({film.owner_test for film in films}) > 1
    ]
    conflicts += [
        f"patient {patient} in test and outside it: {_names(films)}"
        for patient, films in patients.items()
        if len({film.owner_test for film in films}) > 1 and len({film.sha256 for film in films}) > 1
    ]
    if conflicts:
        more = [f"and {len(conflicts) - _LISTED} more"] if len(conflicts) > _LISTED else []
        listed = "\n  ".join([*conflicts[:_LISTED], *more])
        raise DataError(f"these films cannot be trained on as they are:\n  {listed}")


def _names(films: list[_Found]) -> str:
    return ", ".join(film.name for film in films)


def _set_copies_aside(found: list[_Found]) -> tuple[list[_Found], list[str]]:
    """Keep one of each set of exact copies; in the owner's test folder keep them all."""
    seen: set[str] = set()
    kept: list[_Found] = []
    aside: list[str] = []
    for film in found:
        if film.sha256 in seen and not film.owner_test:
            aside.append(film.name)
        else:
            kept.append(film)
        seen.add(film.sha256)
    return kept, aside


def _digest(scans: Iterable[LabelledScan]) -> str:
    lines = sorted(f"{scan.sha256} {scan.label} {scan.side}\n" for scan in scans)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _check_sides(dataset: Dataset) -> None:
    for side, counts in dataset.counts().items():
        missing = [label for label in CLASSES if counts[label] == 0]
        if missing:
            raise DataError(f"the {side} side has no {' and no '.join(missing)} film")
