"""Fits the strangeness of films: what training films look like, and limits for others.

It is fitted on the train side. The calibration side shows whether it holds for films that the
network was not trained on. No pictures of anything but chests are used. A night may be given chest
films of other patients, for example adults; they give the direction in which such layouts differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf

from worker.errors import DataError
from worker.imaging.preprocessing import Pixels
from worker.model.familiarity import (
    Familiar,
    Floats,
    OtherPatients,
    Spread,
    directions,
    layouts,
    mirrored,
)
from worker.model.manifest import FamiliarLimits
from worker.model.runtime import Network

REVIEWED = 0.01  # share of the training films above the review limit
OTHERS_REVIEWED = 0.02  # share of familiar films that may be REVIEW as films of other patients
_REFUSED_FROM = 1.3  # times the review limit; one of 5,216 films was above it
_FEWEST = 8  # films needed for a spread
_PARTS = 5  # of the other patients' films, each judged by a fit to the rest


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


def fit(
    train: Described,
    calibration: Described,
    *,
    others: Described | None = None,
    towards: Floats | None = None,
) -> Familiarity:
    """Fit the distances on the train side, and choose both limits.

    Covariances are shrunk (Ledoit and Wolf 2004, *A well-conditioned estimator for
    large-dimensional covariance matrices*). A film and its mirror image are equally familiar. The
    review limit is the 99th percentile of the train side, or of the calibration side if that is
    higher, because films that a network was trained on lie closer together.

    Other patients are recognised by a sum of two scores, each in standard deviations of the train
    side: the root mean square of the scaled distances of features and layout, and the projection of
    the layout on Fisher's linear discriminant between training films and films of other patients.
    Without such films, the first score is used alone. Its limit is the percentile that leaves
    `OTHERS_REVIEWED` of the train or the calibration side to REVIEW, whichever limit is higher.

    Args:
        train: films that the network was trained on.
        calibration: films of patients that it was not trained on.
        others: chest films of patients that the model is not for, in order of patients.
        towards: (cells,) the direction to them, from an earlier fit, instead of `others`.

    Raises:
        DataError: too few films, or features that are not finite.
    """
    both_ways = np.concatenate([train.layouts, mirrored(train.layouts)])
    features, layout = _spread(train.directions), _spread(both_ways)
    plain = Familiar(scales=np.ones(4), features=features, layout=layout)
    scales = _within(plain.distances(train.layouts, train.directions))
    parts = replace(plain, scales=np.append(scales, 1.0))
    whole = _within(parts.of(train.layouts, train.directions))
    familiar = replace(plain, scales=np.append(scales, whole))

    # Films that were not fitted on can raise the limits.
    held_out = familiar.of(calibration.layouts, calibration.directions)
    review = max(1.0, float(_within(held_out)))
    if not np.isfinite(review):
        raise DataError("the strangeness of the calibration films is not finite")
    sides = _Sides(familiar=familiar, train=train, calibration=calibration, review=review)
    if others is not None:
        towards = _way(train, others)
    familiar, limits = sides.told_apart(towards)
    held_out = familiar.of(calibration.layouts, calibration.directions)
    facts: dict[str, Any] = {
        "films": len(train.layouts),
        "reviewed": REVIEWED,
        "others_reviewed": OTHERS_REVIEWED,
        "beyond_review": _share(held_out > limits.review),
        "beyond_refuse": _share(held_out > limits.refuse),
    }
    if others is not None:
        facts["others"] = {"films": len(others.layouts), "beyond_review": sides.found(others)}
    return Familiarity(familiar=familiar, limits=limits, facts=facts)


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """The sides and limits that other patients are recognised by."""

    familiar: Familiar  # without other patients
    train: Described
    calibration: Described
    review: float  # its review limit

    def told_apart(self, towards: Floats | None) -> tuple[Familiar, FamiliarLimits]:
        """Return the fit with other patients, and both limits.

        It is scaled so that 1 stays the 99th percentile of the train side.
        """
        away = self.familiar.away(self.train.layouts, self.train.directions)
        weight, offset = 1 / _deviation(away), away.mean() / _deviation(away)
        direction = np.zeros(self.train.layouts.shape[1])
        if towards is not None:
            leaning = self.train.layouts @ towards
            direction = towards / _deviation(leaning)
            offset += leaning.mean() / _deviation(leaning)
        amounts = [
            side.layouts @ direction
            + weight * self.familiar.away(side.layouts, side.directions)
            - offset
            for side in (self.train, self.calibration)
        ]
        gain = self.review / max(1e-6, *(np.quantile(a, 1 - OTHERS_REVIEWED) for a in amounts))
        others = OtherPatients(
            direction=gain * direction,
            weight=float(gain * weight),
            offset=float(gain * offset),
            most=self.review * float(np.sqrt(_REFUSED_FROM)),
        )
        whole = replace(self.familiar, others=others)
        within = float(_within(whole.of(self.train.layouts, self.train.directions)))
        scaled = replace(
            whole,
            scales=np.append(whole.scales[:3], within * whole.scales[3]),
            others=OtherPatients(
                direction=others.direction / within,
                weight=others.weight / within,
                offset=others.offset / within,
                most=others.most / within,
            ),
        )
        review = self.review / within
        return scaled, FamiliarLimits(review=review, refuse=_REFUSED_FROM * review)

    def found(self, others: Described) -> float:
        """Return the share of their films above the review limit, by cross-validation.

        A part is a run of films in order, so that one patient's films are in one part.
        """
        beyond = []
        for part in np.array_split(np.arange(len(others.layouts)), _PARTS):
            rest = np.delete(others.layouts, part, axis=0)
            way = _way(self.train, replace(others, layouts=rest))
            familiar, limits = self.told_apart(way)
            found = familiar.of(others.layouts[part], others.directions[part])
            beyond.append(found > limits.review)
        return _share(np.concatenate(beyond))


def _way(train: Described, others: Described) -> Floats:
    """Return (cells,) Fisher's discriminant direction, from `train` to `others`.

    A film and its mirror image count alike.
    """
    ours, theirs = (
        _spread(np.concatenate([side.layouts, mirrored(side.layouts)])) for side in (train, others)
    )
    within = sum(np.linalg.inv(one.whitening.T @ one.whitening) for one in (ours, theirs))
    way: Floats = np.linalg.solve(within, theirs.middle - ours.middle)
    return way


def _deviation(values: Floats) -> float:
    return max(float(values.std()), 1e-6)


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
