"""Finds labelled films: in class-per-folder trees, and in the archive by readers' labels.

A tree has the Kaggle layout, `<split>/<class>/*.jpeg`, or only `<class>/*.jpeg`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from training.data.patients import Patients, is_alone
from training.io import needed
from worker.db.engine import Database
from worker.db.labels import Labels, ReaderLabel
from worker.errors import DataError
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.system.files import open_regular
from worker.system.folders import Folders
from worker.system.redaction import shown

CLASSES = (NEGATIVE, POSITIVE)
_OWNER_SPLITS = ("train", "val", "test")
_SUFFIXES = {".jpeg", ".jpg"}
_READERS = 8  # threads that read and hash


class Owner(StrEnum):
    """How the owner of a data set placed a film."""

    TEST = "test"  # in a test folder
    TRAIN = "train"  # outside the test folder
    NOTHING = "nothing"  # there is no test folder


@dataclass(frozen=True, kw_only=True)
class Film:
    """A labelled film without a side yet."""

    path: Path
    name: str  # shown to people
    label: str  # NORMAL or PNEUMONIA
    sha256: str  # of the file's bytes
    patient: str
    listed: bool  # whether a list of patients names it
    owner: Owner
    source: str  # name of the tree, or `archive`
    tree: int  # number of its tree, from 0; the archive comes last


@dataclass(frozen=True, kw_only=True)
class Archive:
    """Where the worker keeps films that readers may have labelled."""

    folders: Folders
    database_url: str


@dataclass(frozen=True, kw_only=True)
class LabelledFilms:
    """All labelled films, and remarks about missing ones."""

    films: tuple[Film, ...]  # the trees in order, then the archive; sorted by name
    remarks: tuple[str, ...]


def find_films(
    trees: Sequence[Path], *, archive: Archive | None = None, patients: Patients | None = None
) -> LabelledFilms:
    """Find every labelled film and read it once, for its hash.

    Args:
        trees: each has `train`, `val` and `test` folders of class folders, or class folders.
        archive: of the worker, to include readers' labels.
        patients: how to find a film's patient; None for the names of the public data set.

    Raises:
        DataError: a tree has no films or cannot be read, or there are no films at all.
        DatabaseTrouble: the labels cannot be read.
    """
    patients = patients or Patients()
    films: list[Film] = []
    for number, tree in enumerate(trees):
        films += _in_tree(tree, patients, number=number, alone=len(trees) == 1)
    remarks: list[str] = []
    if archive is not None:
        archived, remarks = _in_archive(archive, patients, number=len(trees))
        films += archived
    if not films:
        raise DataError("no labelled films: name a folder with --data, or label archived scans")
    films = _with_known_patients(films)
    remarks += _unlisted(films, patients)
    return LabelledFilms(films=tuple(films), remarks=tuple(remarks))


def _unlisted(films: Sequence[Film], patients: Patients) -> list[str]:
    """Return a line with the number of films that a list of patients does not name."""
    if not patients.listed:
        return []
    if not any(film.listed for film in films):
        raise DataError(
            f"the list of patients names none of the {len(films):,} films: its first column is a "
            "film's file name, with its ending and without a folder, or its SHA-256"
        )
    alone = sum(is_alone(film.patient) for film in films)
    if not alone:
        return []
    return [f"{alone:,} films are not in the list of patients: each is a patient of its own"]


def _in_tree(tree: Path, patients: Patients, *, number: int, alone: bool) -> list[Film]:
    with needed("a folder of films cannot be read", tree):
        splits = [name for name in _OWNER_SPLITS if (tree / name).is_dir()]
        paths = [
            (path, label, split)
            for split in splits or [""]
            for label in CLASSES
            for path in _films(tree / split / label)
        ]
    if not paths:
        raise DataError(
            f"no films under {tree}: expected {NEGATIVE}/*.jpeg and {POSITIVE}/*.jpeg, there or "
            f"in {', '.join(_OWNER_SPLITS)}"
        )
    left = Owner.TRAIN if "test" in splits else Owner.NOTHING
    digests = _digests([path for path, _, _ in paths])
    films = [
        Film(
            path=path,
            name=path.relative_to(tree).as_posix() if alone else str(path),
            label=label,
            sha256=digest,
            patient=patients.of(path.name, digest),
            listed=patients.lists(path.name, digest),
            owner=Owner.TEST if split == "test" else left,
            source=shown(tree.resolve().name),
            tree=number,
        )
        for (path, label, split), digest in zip(paths, digests, strict=True)
        if digest
    ]
    return sorted(films, key=lambda film: film.name)


def _films(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return (
        path
        for path in folder.iterdir()
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _in_archive(
    archive: Archive, patients: Patients, *, number: int
) -> tuple[list[Film], list[str]]:
    database = Database(archive.database_url)
    try:
        readers, there = Labels(database), database.exists()
        labelled = readers.for_training(archive.folders) if there else []
    finally:
        database.close()
    digests = _digests(
        [one.path for one in labelled],
        # Other programs may move or lock files outside the archive.
        may_lack={one.path for one in labelled if not one.filed},
        follow=False,  # as in screening, links are not followed
    )
    films, remarks = [], []
    for one, digest in zip(labelled, digests, strict=True):
        name = f"scan {one.scan_id} ({one.sha256[:12]})"  # a file's name may be a patient's
        if digest != one.sha256:
            place = "in the archive" if one.filed else "to be read where it was screened"
            why = f"no longer {place}" if digest is None else "not the film that was screened"
            remarks.append(f"set aside: {name} is {why}")
            continue
        films.append(_archived(one, name, patients, number=number))
    return films, remarks


def _archived(one: ReaderLabel, name: str, patients: Patients, *, number: int) -> Film:
    file_name = one.file_name.rpartition("/")[2]
    return Film(
        path=one.path,
        name=name,
        label=one.label,
        sha256=one.sha256,
        patient=patients.of(file_name, one.sha256),
        listed=patients.lists(file_name, one.sha256),
        owner=Owner.NOTHING,
        source="archive",
        tree=number,
    )


def _digests(
    paths: Sequence[Path], *, may_lack: Collection[Path] = frozenset(), follow: bool = True
) -> list[str | None]:
    """Return each file's SHA-256, or None if it is missing, or unreadable and in `may_lack`."""

    def digest(path: Path) -> str | None:
        return _digest(path, may_lack=path in may_lack, follow=follow)

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(digest, paths))


def _digest(path: Path, *, may_lack: bool, follow: bool) -> str | None:
    try:
        with open_regular(path, follow=follow) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        if may_lack:
            return None
        raise DataError(f"a film cannot be read ({error.strerror}):\n  {path}") from error


def _with_known_patients(films: list[Film]) -> list[Film]:
    """Give a film without a known patient the known patient of an exact copy."""
    known = {film.sha256: film.patient for film in films if not is_alone(film.patient)}
    return [
        replace(film, patient=known.get(film.sha256, film.patient))
        if is_alone(film.patient)
        else film
        for film in films
    ]
