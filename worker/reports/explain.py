"""Explains a stored score: screens the archived film again and draws where the evidence lies.

The explanation must match the record: the same bytes, the model version in the row, and the row's
logit. Otherwise it is an error, not a picture.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path

from worker.db.engine import Database
from worker.db.predictions import Archived, ArchivedFilms, VersionPrediction
from worker.errors import FilmRefused, RegistryError, ScanError
from worker.imaging.preprocessing import (
    PREPROCESSING_VERSION,
    TURNED,
    FilmLimits,
    Pixels,
    check_header,
    read_film,
)
from worker.model.decision import SAME_LOGIT, judge
from worker.model.registry import Registry
from worker.model.runtime import Floats, Model, load
from worker.reports.overlay import Caption, draw, fit, thumbnail
from worker.system.files import open_regular
from worker.system.folders import Folders


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A film for display, the prediction, and its evidence map."""

    grey: Pixels  # (height, width) uint8, upright, in the film's aspect ratio
    evidence: Floats  # (rows, columns): sums to the logit
    caption: Caption

    def draw(self) -> bytes:
        """Return the explanation as a PNG."""
        return draw(self.grey, self.evidence, self.caption)

    def thumbnail(self) -> bytes:
        """Return a small PNG of film and evidence, without text."""
        return thumbnail(self.grey, self.evidence)


def explain(
    database: Database,
    registry: Registry,
    folders: Folders,
    wanted: str,
    *,
    limits: FilmLimits,
    version: str | None = None,
    predict_seconds: float | None = None,
    prevalence: float | None = None,
) -> Explanation:
    """Screen an archived film again and return where its evidence lies.

    Args:
        database: with scans and predictions.
        registry: of the model packages.
        folders: of the films.
        wanted: a scan, by id, file name, or beginning of the SHA-256.
        limits: on a film.
        version: of the model; None for the one that made the row.
        predict_seconds: limit on the network's processor time for a film; None for no limit.
        prevalence: of PNEUMONIA at this site, if this version has no prediction of the film; None
            for the package's own.

    Raises:
        ScanError: no such scan, it was refused, its film was moved or changed, or it does not
            give the logit on record.
        RegistryError: the version is not in the registry.
        ModelPackageError: the version is not fit to serve.
        DatabaseTrouble: the database failed.
    """
    archive = ArchivedFilms(database)
    film = archive.find(wanted)
    said = archive.prediction(film.scan_id, version)
    package = _package(registry, film, said, version)
    data = _read(film, folders, limits)
    model = load(package, predict_seconds=predict_seconds)
    try:
        return _explain(film, said, model, data, limits, prevalence=prevalence)
    except FilmRefused as refusal:
        raise ScanError(f"scan {film.scan_id} is refused now: {refusal.sentence}") from refusal


def _package(
    registry: Registry, film: Archived, said: VersionPrediction | None, version: str | None
) -> Path:
    if version is None:
        if said is None:
            raise ScanError(f"scan {film.scan_id} has no prediction")
        if not registry.has(said.version):
            raise RegistryError(
                f"scan {film.scan_id} was screened by {said.version}, which is no longer in "
                f"{registry.root}: name another version with --model"
            )
        version = said.version
    registry.manifest(version)
    return registry.folder(version)


def _explain(
    film: Archived,
    said: VersionPrediction | None,
    model: Model,
    data: bytes,
    limits: FilmLimits,
    *,
    prevalence: float | None,
) -> Explanation:
    manifest = model.manifest
    pixels = read_film(
        data,
        height=manifest.height,
        width=manifest.width,
        version=manifest.preprocessing_version,
        limits=limits,
    ).pixels
    output = model.predict(pixels)
    if said is None:
        verdict = judge(model.score(pixels), manifest, prevalence=prevalence)
        reason = verdict.review_reason
        said = VersionPrediction(
            version=manifest.version,
            logit=verdict.logit,
            probability=verdict.probability,
            threshold=verdict.threshold,
            label=verdict.label,
            decision=verdict.decision,
            review_reason=None if reason is None else reason.value,
            on_record=False,
        )
    elif not abs(output.logit - said.logit) <= SAME_LOGIT:
        raise ScanError(
            f"scan {film.scan_id}: {said.version} gives a logit of {output.logit:.4f} now, and "
            f"{said.logit:.4f} is in its row: this package does not explain the row"
        )
    return Explanation(
        grey=_look(data, limits),
        evidence=output.evidence,
        caption=Caption(
            scan_id=film.scan_id,
            sha256=film.sha256,
            version=said.version,
            logit=output.logit,
            probability=said.probability,
            threshold=said.threshold,
            label=said.label,
            decision=said.decision,
            review_reason=said.review_reason,
            on_record=said.on_record,
        ),
    )


def _look(data: bytes, limits: FilmLimits) -> Pixels:
    """Return a film at display size, (height, width) uint8, in its aspect ratio."""
    header = check_header(data, limits)
    size = (header.width, header.height)
    width, height = fit(*(reversed(size) if header.orientation in TURNED else size))
    # Contrast is checked at the network's size, not here.
    return read_film(
        data,
        height=height,
        width=width,
        version=PREPROCESSING_VERSION,
        limits=replace(limits, min_contrast=0.0),
    ).pixels


def _read(film: Archived, folders: Folders, limits: FilmLimits) -> bytes:
    """Read an archived film completely, never a link, a device or another file."""
    path = folders.path_of(film.place, in_inbox=film.in_inbox)
    lost = f"scan {film.scan_id}: its film is not where it was filed, {film.place}"
    try:
        file = open_regular(path)
    except FileNotFoundError as error:
        raise ScanError(f"{lost}: {error.strerror}") from error
    except OSError as error:
        raise ScanError(
            f"scan {film.scan_id}: {film.place} cannot be read: {error.strerror}"
        ) from error
    with file:
        facts = os.fstat(file.fileno())
        if facts.st_size > limits.max_bytes:
            raise ScanError(
                f"scan {film.scan_id}: {facts.st_size:,} bytes are over the present limit, "
                f"{limits.max_bytes:,}"
            )
        data = file.read(facts.st_size)
    if hashlib.sha256(data).hexdigest() != film.sha256:
        raise ScanError(f"scan {film.scan_id}: its bytes are not those that were screened")
    return data
