"""Where a fit starts: from the champion's weights, or from nothing, and why."""

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
    """What a network begins as."""

    version: str | None  # whose weights; None for fresh ones
    weights: Path | None  # a Keras file
    why: str  # in words


def choose_start(
    registry: Registry,
    *,
    architecture: dict[str, Any],
    salt: str,
    test: Sequence[LabelledScan] = (),
    calibration: Sequence[LabelledScan] = (),
) -> Start:
    """Return the champion's weights if tonight's network can and may start from them.

    A champion of an earlier preprocessing version is gone on with: its weights are a start, and the
    fit, the calibration and the limits of the familiar are all made anew on tonight's pixels.

    Args:
        registry: whose champion it is.
        architecture: of tonight's network, as a manifest describes it.
        salt: of tonight's split. A champion of another may have learnt from films that are to
            test or calibrate tonight.
        test: tonight's test films. A champion that has learnt from one of them is not gone on with.
        calibration: tonight's calibration films. Nor is one whose weights were trained on one of
            them, as where patients are told otherwise than they were: they would seem too easy.
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
    """Return a start from nothing, as asked for."""
    return _nothing("as asked")


def _nothing(why: str) -> Start:
    return Start(version=None, weights=None, why=f"from nothing: {why}")
