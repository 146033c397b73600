"""Fits the strangeness of films: what training films look like, and limits for others.

It is fitted on the train side. The calibration side shows whether it holds for films that the
network was not trained on. No other pictures are used, so everything else counts as unfamiliar.
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

REVIEWED = 0.01  # share of the training films above the review limit
_REFUSED_FROM = 1.3  # times the review limit; one of 5,216 films was above it
_FEWEST = 8  # films needed for a spread


@dataclass(frozen=True, kw_only=True)
class Described:
    """Films reduced to what strangeness needs."""

    layouts: Floats  # (n, cells)
    directions: Floats  # (n, channels)


@dataclass(frozen=True, kw_only=True)
class Familiarity:
    """The parameters, limits and facts for a package."""

    familiar: Familiar
    limits: FamiliarLimits
    facts: dict[str, Any]  # how it was fitted, and the shares on the calibration side


def describe(served: bytes, films: Iterable[Pixels]) -> Described:
    """Run a served file on (height, width) uint8 films, and return what strangeness needs."""
    network = Network(served)
    described = [(layouts(film[np.newaxis])[0], network.predict(film).features) for film in films]
    if not described:
        raise DataError("there are no films to fit familiarity on")
    return Described(
        layouts=np.stack([layout for layout, _ in described]),
        directions=directions(np.stack([features for _, features in described])),
    )


def fit(train: Described, calibration: Described) -> Familiarity:
    """Fit the distances on the train side, and choose both limits.

    Covariances are shrunk (Ledoit and Wolf 2004, *A well-conditioned estimator for
    large-dimensional covariance matrices*). A film and its mirror image are equally familiar. The
    review limit is the 99th percentile of the train side, or of the calibration side if that is
    higher, because films that a network was trained on lie closer together.

    Args:
        train: films that the network was trained on.
        calibration: films of other patients.

    Raises:
        DataError: too few films, or features that are not finite.
    """
    both_ways = np.concatenate([train.layouts, mirrored(train.layouts)])
    spreads = {"features": _spread(train.directions), "layout": _spread(both_ways)}
    plain = Familiar(scales=np.ones(4), **spreads)
    scales = _within(plain.distances(train.layouts, train.directions))
    parts = Familiar(scales=np.append(scales, 1.0), **spreads)
    whole = _within(parts.of(train.layouts, train.directions))
    familiar = Familiar(scales=np.append(scales, whole), **spreads)

    # Films that were not fitted on can raise the limits.
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
        raise DataError("too few films, or features that are not finite, to fit familiarity on")
    covariance, _ = ledoit_wolf(points)
    # A channel that is always 0 makes the matrix singular; a fraction of the mean variance helps.
    hair = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    root = np.linalg.cholesky(covariance + hair * np.eye(len(covariance)))
    return Spread(middle=points.mean(axis=0), whitening=np.linalg.inv(root))


def _within(values: Floats) -> Floats:
    """Return the 99th percentile of each column; at least 1e-6."""
    within: Floats = np.maximum(np.quantile(values, 1 - REVIEWED, axis=0), 1e-6)
    return within


def _share(beyond: npt.NDArray[np.bool_]) -> float:
    return float(np.mean(beyond))
