"""Chooses the start of a fit: the champion's weights, or new ones, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.seen_films import why_not, why_not_calibrate
from training.data.splits import LabelledScan
from worker.errors import ModelPackageError, RegistryError
from worker.model.manifest import verify_files
from worker.model.registry import Registry

CONTINUED = "model.keras"


@dataclass(frozen=True, kw_only=True)
class Start:
    """The start of a network."""

    version: str | None  # of the weights; None for new ones
    weights: Path | None  # a Keras file
    why: str  # the reason, for people


def choose_start(
    registry: Registry,
    *,
    architecture: dict[str, Any],
    salt: str,
    test: Sequence[LabelledScan] = (),
    calibration: Sequence[LabelledScan] = (),
) -> Start:
    """Return the champion's weights if this night's network can and may start from them.

    A champion of an earlier preprocessing version is gone on with: its weights are a start, and the
    fit, the calibration and the limits of the familiar are all made anew on tonight's pixels.

    Args:
        registry: with the champion.
        architecture: of this night's network, as in a manifest.
        salt: of this night's split. A champion with another salt may have been trained on films
            that now test or calibrate.
        test: this night's test films. A champion made from one of them is not used.
        calibration: this night's calibration films. A champion whose weights were trained on one of
            them, for example because patients are found differently now, is not used either.
    """
    try:
        champion = registry.champion()
        if champion is None:
            return _nothing("there is no champion")
        manifest = registry.manifest(champion)
        verify_files(registry.folder(champion), manifest)
        learnt = why_not(registry.folder(champion), test)
        trained = why_not_calibrate(registry.folder(champion), calibration)
    except (ModelPackageError, RegistryError) as error:
        return _nothing(f"the champion cannot be read: {error}")
    weights = registry.folder(champion) / CONTINUED
    obstacles = {
        f"{champion} has another architecture": (
            manifest.training.get("architecture") != architecture
        ),
        f"{champion} was trained on another split": manifest.training.get("salt") != salt,
        f"{champion} has no {CONTINUED}": CONTINUED not in manifest.files,
        learnt: learnt != "",
        trained: trained != "",
    }
    for why, stands in obstacles.items():
        if stands:
            return _nothing(why)
    return Start(version=champion, weights=weights, why=f"from the weights of {champion}")


def from_scratch() -> Start:
    """Return a start from new weights, as requested."""
    return _nothing("as asked")


def _nothing(why: str) -> Start:
    return Start(version=None, weights=None, why=f"from nothing: {why}")
