"""`manifest.json` of a model package: its fields, and the hashes of the package's files.

A published package never changes. What the model's outputs depend on (class names, input size,
temperature, threshold, review band) is in the manifest, with the SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from worker.errors import ModelPackageError
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS
from worker.model.familiarity import FAMILIAR
from worker.model.population import Population, from_sentence

FORMAT: Final = 2  # of new packages; 1 had no familiarity limits
MANIFEST: Final = "manifest.json"
SERVED: Final = "model.tflite"
GOLDEN: Final = "golden.npz"
NEGATIVE: Final = "NORMAL"
POSITIVE: Final = "PNEUMONIA"
VERSION_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileFacts(_Strict):
    """Hash and size of another file of the package."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(gt=0)


class FamiliarLimits(_Strict):
    """The review and refusal limits on `Familiar.strangeness`."""

    review: float = Field(gt=0, allow_inf_nan=False)  # REVIEW above this
    refuse: float = Field(gt=0, allow_inf_nan=False)  # refused above this

    @model_validator(mode="after")
    def _in_order(self) -> FamiliarLimits:
        if not self.review <= self.refuse:
            raise ValueError(f"review {self.review} is above refuse {self.refuse}")
        return self


class Manifest(_Strict):
    """`manifest.json`: everything about a package except weights."""

    format: Literal[1, 2]
    version: str = Field(pattern=VERSION_PATTERN)
    created_at: str  # UTC, ISO 8601
    classes: tuple[str, str]  # in the order of training; aligned by name, never by position
    height: int = Field(gt=0)  # of the network's input, pixels
    width: int = Field(gt=0)
    preprocessing_version: str  # of the pixels it was trained on, and is given as long as it serves
    temperature: float = Field(gt=0, allow_inf_nan=False)
    threshold: Probability  # PNEUMONIA at this probability or above
    review_band: tuple[Probability, Probability]  # REVIEW if low <= probability < high
    familiar: FamiliarLimits | None = None  # None: no film is refused or reviewed as unfamiliar
    files: dict[str, FileFacts]
    training: dict[str, Any]  # data digest, counts, seed, split
    libraries: dict[str, str]
    # Of the test films; None in packages of releases before this field.
    population: Population | None = None

    @property
    def tested_on(self) -> Population:
        """Return the population of the test films, also for packages of older releases."""
        if self.population is not None:
            return self.population
        return from_sentence(str(self.training.get("population") or ""))

    @model_validator(mode="after")
    def _hangs_together(self) -> Manifest:
        if set(self.classes) != {NEGATIVE, POSITIVE}:
            raise ValueError(f"classes must be {NEGATIVE} and {POSITIVE}, not {self.classes}")
        low, high = self.review_band
        if not low <= self.threshold <= high:
            raise ValueError(f"threshold {self.threshold} is outside the review band {low}-{high}")
        if not {SERVED, GOLDEN} <= self.files.keys():
            raise ValueError(f"files must name {SERVED} and {GOLDEN}")
        if self.familiar is not None and (self.format < 2 or FAMILIAR not in self.files):
            raise ValueError(f"familiarity limits need format 2 and {FAMILIAR}")
        if any(Path(name).name != name or name == MANIFEST for name in self.files):
            raise ValueError("files must be plain file names in the manifest's folder")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Read and validate a package's manifest, without opening its weights.

    Raises:
        ModelPackageError: missing, not JSON, of another format, of a preprocessing version that is
            not known, or inconsistent.
    """
    path = folder / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModelPackageError(
            f"{folder.name}: cannot read {MANIFEST}: {error.strerror}"
        ) from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ModelPackageError(f"{folder.name}: {MANIFEST}: {where}: {first['msg']}") from error
    if manifest.preprocessing_version not in PREPROCESSING_VERSIONS:
        raise ModelPackageError(
            f"{folder.name}: made for preprocessing {manifest.preprocessing_version}, "
            f"this release knows {', '.join(PREPROCESSING_VERSIONS)}"
        )
    return manifest


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every file of a package against the manifest's sizes and SHA-256.

    Raises:
        ModelPackageError: naming the first file that is missing or differs.
    """
    for name in manifest.files:
        read_verified(folder, name, manifest)


def read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the bytes of one file of a package, checked against the manifest's size and SHA-256.

    Raises:
        ModelPackageError: the file is missing or differs.
    """
    facts = manifest.files[name]
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise ModelPackageError(f"{folder.name}: cannot read {name}: {error}") from error
    if len(data) != facts.size_bytes or hashlib.sha256(data).hexdigest() != facts.sha256:
        raise ModelPackageError(f"{folder.name}: {name} is not the file named in the manifest")
    return data
