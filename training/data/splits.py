"""Splits for good: a salted hash of the patient decides the side, so nobody moves as data grows.

A folder that its owner split into train and test is respected: its test films are tested with,
its other films never are, and a patient's films elsewhere follow.
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
    name: str  # below the data folder; with several folders, the path; of the archive, the scan
    label: str  # NORMAL or PNEUMONIA
    sha256: str  # of the file's bytes
    patient: str  # the film itself where no patient is known
    side: Side
    owner: Owner = Owner.NOTHING
    tree: int = 0  # which of the data folders it lies in


def split(films: Iterable[Film], *, salt: str, shares: Shares) -> list[LabelledScan]:
    """Put every film on its patient's side."""
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
    """Return a patient's side, by hash alone: no other film or patient has a say in it."""
    key = f"{salt}:{patient}".encode(errors="surrogateescape")  # names of files are bytes
    digest = hashlib.sha256(key).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    if place < shares.calibration:
        return Side.CALIBRATION
    if not has_owner_test and place >= 1 - shares.test:
        return Side.TEST
    return Side.TRAIN


def keep_salt(registry: Registry, asked: str | None = None) -> str:
    """Return the salt that is kept with these models; on the first night, make it and keep it.

    A registry that was seeded with a model takes over the salt of that model's night: its
    training patients must not become anybody's test patients.

    Args:
        registry: whose salt is wanted. The caller holds its lock.
        asked: a salt to keep, where there is none yet.

    Raises:
        DataError: another salt than the kept one was asked for, or it cannot be written.
        RegistryError: the salt is there and cannot be read.
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
        raise RegistryError(f"{path} is empty: bring it back from a backup, patients would move")
    if asked is not None and asked.strip() != kept:
        raise DataError(f"{path} holds another salt, and patients never move: leave --salt out")
    return kept


def _salt_of_champion(registry: Registry) -> str:
    champion = registry.champion()
    return "" if champion is None else str(registry.manifest(champion).training.get("salt") or "")
