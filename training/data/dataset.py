"""The data set of a night: all labelled films with their sides, checked for leaks.

Films come from `sources`, patients from `patients`, sides from `splits`, conflicts from `leakage`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from training.data.leakage import find_conflicts, find_near_conflicts, settle
from training.data.patients import Patients
from training.data.sources import CLASSES, Archive, Film, Owner, find_films
from training.data.splits import LabelledScan, Shares, Side, side_of, split
from worker.errors import DataError
from worker.imaging.preprocessing import Pixels

__all__ = ["Dataset", "LabelledScan", "Shares", "Side", "read_dataset", "side_of"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """All labelled scans with their sides."""

    name: str  # of the data folders
    test_name: str  # the source of the test films, for people
    test_note: str  # how the test films were chosen, a sentence
    scans: tuple[LabelledScan, ...]  # the trees in order, then the archive; sorted by name
    copies_set_aside: tuple[str, ...]  # names of exact copies of a film that is kept
    remarks: tuple[str, ...]  # for people: films missing or set aside
    digest: str  # SHA-256 over every film's hash, label and side

    def side(self, side: Side) -> list[LabelledScan]:
        """Return the scans of one side, in order."""
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

    def without_near_copies(
        self, pixels: Pixels, rows: dict[str, int], *, drop_conflicts: bool = False
    ) -> Dataset:
        """Return the dataset without near copies across sides or labels. The digest stays.

        Args:
            pixels: (n, height, width) uint8.
            rows: SHA-256 -> row of `pixels`. Films without a row are not compared.
            drop_conflicts: set such films aside instead of stopping.

        Raises:
            DataError: there are such films and `drop_conflicts` is not set; or a side then lacks a
                class.
        """
        conflicts = find_near_conflicts(self.scans, pixels, rows)
        scans, remarks = settle(self.scans, conflicts, drop=drop_conflicts)
        dataset = replace(self, scans=tuple(scans), remarks=(*self.remarks, *remarks))
        _check_sides(dataset)
        return dataset


def read_dataset(
    trees: Path | Sequence[Path],
    *,
    salt: str,
    shares: Shares | None = None,
    archive: Archive | None = None,
    patients: Patients | None = None,
    drop_conflicts: bool = False,
) -> Dataset:
    """Find every labelled film and assign its side.

    Args:
        trees: one or more class-per-folder trees; see `sources.find_films`.
        salt: of the hash that splits patients; the same salt gives the same split.
        shares: of the sides; None for the defaults.
        archive: of the worker, to include readers' labels.
        patients: how to find a film's patient.
        drop_conflicts: set aside films that contradict one another, instead of stopping.

    Raises:
        DataError: there are no films, a side lacks a class, or labels and splits contradict each
            other (one film with two labels, a copy or a patient on both sides). The message lists
            the films.
        DatabaseTrouble: the labels cannot be read.
    """
    trees = [trees] if isinstance(trees, Path) else list(trees)
    labelled = find_films(trees, archive=archive, patients=patients)
    scans = split(labelled.films, salt=salt, shares=shares or Shares())
    scans, dropped = settle(scans, find_conflicts(scans), drop=drop_conflicts)
    scans, copies = _set_copies_aside(scans)
    dataset = Dataset(
        name=" + ".join(dict.fromkeys(film.source for film in labelled.films)),
        test_name=_test_name(labelled.films, scans),
        test_note=_test_note(scans),
        scans=tuple(scans),
        copies_set_aside=tuple(copies),
        remarks=(*labelled.remarks, *dropped),
        digest=_digest(scans),
    )
    _check_sides(dataset)
    return dataset


def _test_name(films: Iterable[Film], scans: Iterable[LabelledScan]) -> str:
    """Return the source of the test films: an owner's test folder, or a whole source."""
    tested = {scan.path for scan in scans if scan.side is Side.TEST}
    names = [
        f"{film.source}/test" if film.owner is Owner.TEST else film.source
        for film in films
        if film.path in tested
    ]
    return " + ".join(dict.fromkeys(names))


def _test_note(scans: Iterable[LabelledScan]) -> str:
    test = [scan for scan in scans if scan.side is Side.TEST]
    apart = sum(scan.owner is Owner.TEST for scan in test)
    if apart == len(test):
        return "The owner of the data set chose these films for testing."
    if not apart:
        return "These are all films of patients chosen by a hash of the patient."
    return (
        f"The owner of the data set chose {apart} of these films for testing; the others are of "
        "the same patients, or of patients chosen by a hash of the patient."
    )


def _set_copies_aside(scans: Sequence[LabelledScan]) -> tuple[list[LabelledScan], list[str]]:
    """Keep one of each set of exact copies; in an owner's test folder keep all.

    If a film is in several owners' test folders, only those in the first tree are kept.
    """
    tested: dict[str, int] = {}  # SHA-256 -> the first tree with it in its test folder
    for scan in scans:
        if scan.owner is Owner.TEST:
            tested.setdefault(scan.sha256, scan.tree)
    seen = set(tested)
    kept: list[LabelledScan] = []
    aside: list[str] = []
    for scan in scans:
        as_tested = scan.owner is Owner.TEST and scan.tree == tested[scan.sha256]
        if scan.sha256 in seen and not as_tested:
            aside.append(scan.name)
        else:
            kept.append(scan)
        seen.add(scan.sha256)
    return kept, aside


def _digest(scans: Iterable[LabelledScan]) -> str:
    lines = sorted(f"{scan.sha256} {scan.label} {scan.side}\n" for scan in scans)
    return hashlib.sha256("".join(lines).encode("ascii")).hexdigest()


def _check_sides(dataset: Dataset) -> None:
    for side, counts in dataset.counts().items():
        missing = [label for label in CLASSES if counts[label] == 0]
        if missing:
            raise DataError(f"the {side} side has no {' and no '.join(missing)} film")
