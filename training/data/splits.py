"""The split into sides. A salted hash of the patient decides, so no patient moves as data grows.

An owner's split into train and test is kept: its test films are test films, its other films never
are, and a patient's films elsewhere follow.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from training.data.sources import Film, Owner
from training.io import needed
from worker.errors import DataError, RegistryError
from worker.model.registry import Registry
from worker.system.files import write_atomically

SALT = "SALT"  # the file in the models folder
_SALT_BYTES = 16


class Side(StrEnum):
    """The use of a film."""

    TRAIN = "train"  # the weights
    CALIBRATION = "calibration"  # temperature, threshold, review band
    TEST = "test"  # the numbers in evaluation.json, and nothing else


@dataclass(frozen=True, kw_only=True)
class Shares:
    """The shares of patients given to each side by the hash; training gets the rest."""

    calibration: float = 0.15
    test: float = 0.20  # only without an owner's test folder


@dataclass(frozen=True, kw_only=True)
class LabelledScan:
    """A film with its label and its side."""

    path: Path
    name: (
        str  # path below the data folder; whole path if there are several; in the archive, the scan
    )
    label: str  # NORMAL or PNEUMONIA
    sha256: str  # of the file's bytes
    patient: str  # or the film, if its patient is unknown
    side: Side
    owner: Owner = Owner.NOTHING
    tree: int = 0  # number of its data folder


def split(films: Iterable[Film], *, salt: str, shares: Shares) -> list[LabelledScan]:
    """Assign every film to its patient's side."""
    films = list(films)
    bound = {film.patient: Owner.TRAIN for film in films if film.owner is Owner.TRAIN}
    bound |= {film.patient: Owner.TEST for film in films if film.owner is Owner.TEST}
    return [
        LabelledScan(
            path=film.path,
            name=film.name,
            label=film.label,
            sha256=film.sha256,
            patient=film.patient,
            side=Side.TEST
            if bound.get(film.patient) is Owner.TEST
            else side_of(
                film.patient, salt=salt, shares=shares, has_owner_test=film.patient in bound
            ),
            owner=film.owner,
            tree=film.tree,
        )
        for film in films
    ]


def side_of(patient: str, *, salt: str, shares: Shares, has_owner_test: bool) -> Side:
    """Return a patient's side, by hash alone, independent of other films and patients."""
    key = f"{salt}:{patient}".encode(errors="surrogateescape")  # names of files are bytes
    digest = hashlib.sha256(key).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < shares.calibration:
        return Side.CALIBRATION
    if not has_owner_test and place >= 1 - shares.test:
        return Side.TEST
    return Side.TRAIN


def keep_salt(registry: Registry, asked: str | None = None) -> str:
    """Return the salt kept with these models; create it on the first night.

    A registry that was seeded with a model takes over the salt of that model's night, so that its
    training patients never become test patients.

    Args:
        registry: with the salt. The caller holds its lock.
        asked: the salt to keep, if there is none yet.

    Raises:
        DataError: another salt was asked for than the one kept, or it cannot be written.
        RegistryError: the salt exists and cannot be read.
    """
    path = registry.root / SALT
    try:
        kept = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        kept = (asked or "").strip() or _salt_of_champion(registry)
        kept = kept or secrets.token_hex(_SALT_BYTES)
        with needed("the salt that splits patients cannot be kept", path):
            registry.root.mkdir(parents=True, exist_ok=True)
            write_atomically(path, f"{kept}\n".encode())
        return kept
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"cannot read {path}: {error}") from error
    if not kept:
        raise RegistryError(f"{path} is empty: restore it from a backup, or patients change sides")
    if asked is not None and asked.strip() != kept:
        raise DataError(f"{path} holds another salt, and patients keep their sides: omit --salt")
    return kept


def _salt_of_champion(registry: Registry) -> str:
    champion = registry.champion()
    return "" if champion is None else str(registry.manifest(champion).training.get("salt") or "")
