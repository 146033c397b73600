"""Chooses calibration, operating point and review band.

They are chosen from labels and logits of the calibration side, never of the test side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from sklearn.linear_model import LogisticRegression

from training.evaluate.metrics import OperatingPoint, Scores, Truth, check_both_classes
from worker.model.decision import calibrate

_STEP = 0.005  # by which coverage gives way


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Parameters from logits to probabilities: (logit + shift) / temperature."""

    shift: float  # in logits, before the temperature; goes into the network's bias
    temperature: float


@dataclass(frozen=True, kw_only=True)
class Aims:
    """Targets for operating point and review band, on the calibration side."""

    sensitivity: float = 0.97  # of the label, at the threshold
    coverage: float = 0.99  # of each class: share not called the other class outside review
    # Largest share of films as they are near the threshold; coverage is lowered to keep it. Two
    # points below the 10 % that a department is promised, because other films differ.
    review_share: float = 0.08


def fit_calibration(truth: Truth, logits: Scores) -> Calibration:
    """Fit shift and temperature for equally frequent classes.

    Platt scaling (Platt 1999) with equal class weights. The prevalence where the model will serve
    is unknown, and that of the data is an accident of collection.

    Args:
        truth: (n,) of the calibration side.
        logits: (n,) of the network.

    Raises:
        DataError: a class is missing, or a logit is not finite.
    """
    check_both_classes(truth, logits)
    # C prevents a temperature of zero for a perfectly separated calibration side.
    regression = LogisticRegression(C=100.0, class_weight="balanced")
    regression.fit(logits[:, np.newaxis], truth)
    slope = float(np.clip(regression.coef_[0, 0], 0.05, 20.0))
    return Calibration(shift=float(regression.intercept_[0]) / slope, temperature=1 / slope)


def choose_operating_point(
    truth: Truth, logits: Scores, *, temperature: float, aims: Aims | None = None
) -> OperatingPoint:
    """Choose the highest threshold with the target sensitivity, and the review band.

    The band is a class-conditional conformal prediction (Vovk 2012, *Conditional Validity of
    Inductive Conformal Predictors*): of films exchangeable with the calibration side's, at least
    `coverage` of each class are not called the other class outside the band. With few films the
    guarantee is weaker: see `promised_coverage`.

    Args:
        truth: (n,) of the calibration side.
        logits: (n,) of the served file, shift included.
        temperature: divides the logits.
        aims: None for the defaults.

    Raises:
        DataError: a class is missing, or a logit is not finite.
    """
    aims = aims or Aims()
    check_both_classes(truth, logits)
    positive, negative = np.sort(logits[truth]), np.sort(logits[~truth])
    cut = _between(logits, _cut_for_sensitivity(positive, aims.sensitivity))
    # Below `low` PNEUMONIA is not plausible; at `high` and above NORMAL is not.
    low = float(positive[_left_out(len(positive), aims.coverage) - 1])
    high = float(np.nextafter(negative[-_left_out(len(negative), aims.coverage)], np.inf))
    threshold, bottom, top = (
        float(calibrate(np.float64(value), temperature)) for value in (cut, low, high)
    )
    return OperatingPoint(
        temperature=temperature,
        threshold=threshold,
        review_band=(min(bottom, threshold), max(top, threshold)),
    )


def affordable(
    truth: Truth, logits: Scores, *, temperature: float, as_they_are: int, aims: Aims | None = None
) -> Aims:
    """Lower the coverage until few enough films as they are lie in the review band.

    Films that were swapped or zoomed widen the band, and most films that arrive are neither.

    Args:
        truth: (n,) of the calibration side.
        logits: (n,) of the served file, shift included.
        temperature: divides the logits.
        as_they_are: how many films, the first ones, were not changed. Both classes weigh the same.
        aims: the defaults where none are given.
    """
    aims = aims or Aims()
    whole = truth[:as_they_are]
    probability = calibrate(logits[:as_they_are], temperature)
    for lowered in np.arange(0.0, aims.coverage - 0.5, _STEP):
        fitting = replace(aims, coverage=round(aims.coverage - float(lowered), 3))
        low, high = choose_operating_point(
            truth, logits, temperature=temperature, aims=fitting
        ).review_band
        review = (probability >= low) & (probability < high)
        if (review[whole].mean() + review[~whole].mean()) / 2 <= aims.review_share:
            return fitting
    return replace(aims, coverage=0.5)


def promised_coverage(films: int, coverage: float) -> float:
    """Return the share of a class that the band guarantees not to call the other class.

    It is the target or more; with fewer than 1 / (1 - coverage) films it is less.

    >>> promised_coverage(49, 0.99)
    0.98

    Args:
        films: of this class on the calibration side.
        coverage: the target.
    """
    return 1 - _left_out(films, coverage) / (films + 1)


def _left_out(films: int, coverage: float) -> int:
    """Return the rank, from one, of the extreme film of a class at which the band ends.

    A new film has each of `films + 1` ranks with equal probability.
    """
    return max(1, math.floor((1 - coverage) * (films + 1) + 1e-9))


def _cut_for_sensitivity(positive: Scores, sensitivity: float) -> float:
    """Return the largest cut with at least this share of the sorted positives at or above it."""
    missed = math.floor((1 - sensitivity) * len(positive) + 1e-9)
    return float(positive[missed])


def _between(logits: Scores, cut: float) -> float:
    """Move a cut halfway to the next lower score, so that no film is exactly on it."""
    lower = logits[logits < cut]
    return cut if len(lower) == 0 else (cut + float(lower.max())) / 2
