"""What the training films look like, so that the worker can tell what does not look like them.

Fitted on the train side; the calibration side says whether it holds for films that the network
has not learnt from. No picture of anything else is used: whatever is no chest film is new to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from worker.errors import DataError
from worker.imaging.preprocessing import Pixels
from worker.model.familiarity import Familiar, Floats, Spread, directions, layouts, mirrored
from worker.model.manifest import FamiliarLimits
from worker.model.runtime import Network

REVIEWED = 0.01  # of the training films: the share that the inner limit may send to REVIEW
_REFUSED_FROM = 1.3  # times the inner limit: one film of 5,216 at hand lay beyond
_FEWEST = 8  # films that a spread can be told from


@dataclass(frozen=True, kw_only=True)
class Described:
    """Films as they are compared: without their pixels."""

    layouts: Floats  # (n, cells)
    directions: Floats  # (n, channels)


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """What goes into a package."""

    familiar: Familiar
    limits: FamiliarLimits
    facts: dict[str, Any]  # how it was fitted, and the shares on the calibration side


def describe(served: bytes, films: Iterable[Pixels]) -> Described:
    """Run a served file on films of (height, width) uint8, and keep what they are compared by."""
    network = Network(served)
    described = [(layouts(film[np.newaxis])[0], network.predict(film).features) for film in films]
    if not described:
        raise DataError("there are no films to tell the familiar by")
    return Described(
        layouts=np.stack([layout for layout, _ in described]),
        directions=directions(np.stack([features for _, features in described])),
    )


def fit(train: Described, calibration: Described) -> Familiarity:
    """Fit the distances on the train side, and choose both limits.

    Covariances are shrunk after Ledoit and Wolf 2004, *A well-conditioned estimator for
    large-dimensional covariance matrices*. A film and its mirror image are as familiar as each
    other. The inner limit is what 99 in 100 films stay within on the train side, or on the
    calibration side if that is more: films that a network learnt from lie closer together.

    Args:
        train: films that the network learnt from.
        calibration: films of other patients.

    Raises:
        DataError: too few films, or features that are no numbers.
    """
    both_ways = np.concatenate([train.layouts, mirrored(train.layouts)])
    spreads = {"features": _spread(train.directions), "layout": _spread(both_ways)}
    plain = Familiar(scales=np.ones(4), **spreads)
    scales = _within(plain.distances(train.layouts, train.directions))
    parts = Familiar(scales=np.append(scales, 1.0), **spreads)
    whole = _within(parts.of(train.layouts, train.directions))
    familiar = Familiar(scales=np.append(scales, whole), **spreads)

    # Films that were not fitted on have their say in the limits.
    held_out = familiar.of(calibration.layouts, calibration.directions)
    review = max(1.0, float(_within(held_out)))
    if not np.isfinite(review):
        raise DataError("the strangeness of the calibration films is not finite")
    limits = FamiliarLimits(review=review, refuse=_REFUSED_FROM * review)
    return Familiarity(
        familiar=familiar,
        limits=limits,
        facts={
            "films": len(train.layouts),
            "reviewed": REVIEWED,
            "beyond_review": _share(held_out > limits.review),
            "beyond_refuse": _share(held_out > limits.refuse),
        },
    )


def _spread(points: Floats) -> Spread:
    if len(points) < _FEWEST or not np.isfinite(points).all():
        raise DataError("too few films, or no numbers, to tell the familiar by")
    covariance, _ = ledoit_wolf(points)
    # A channel that never speaks leaves nothing to invert: a hair of the mean variance does.
    hair = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    root = np.linalg.cholesky(covariance + hair * np.eye(len(covariance)))
    return Spread(middle=points.mean(axis=0), whitening=np.linalg.inv(root))


def _within(values: Floats) -> Floats:
    """Return what 99 in 100 stay within, column by column; never quite 0."""
    within: Floats = np.maximum(np.quantile(values, 1 - REVIEWED, axis=0), 1e-6)
    return within


def _share(beyond: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(beyond))
