"""Metrics: from labels and scores to named numbers with intervals.

Nothing here owns a model or reads a film.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.metrics import brier_score_loss, confusion_matrix, roc_auc_score, roc_curve

from worker.errors import DataError
from worker.model.decision import calibrate
from worker.model.evaluation import Confusion, Estimate, Metrics
from worker.model.intervals import Z95, wilson_interval
from worker.model.manifest import Manifest

Truth = npt.NDArray[np.bool_]  # (n,), True for PNEUMONIA
Scores = npt.NDArray[np.float64]  # (n,), higher for PNEUMONIA


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float

    def estimate(self) -> Estimate:
        """Return the number for an evaluation; None for what is not finite."""
        return Estimate(value=self.value, low=self.low, high=self.high)


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The part of a manifest that turns logits into decisions."""

    temperature: float
    threshold: float  # PNEUMONIA at this probability or above
    review_band: tuple[float, float]  # REVIEW if low <= probability < high

    @classmethod
    def of(cls, manifest: Manifest) -> OperatingPoint:
        """Return the operating point of a package."""
        return cls(
            temperature=manifest.temperature,
            threshold=manifest.threshold,
            review_band=manifest.review_band,
        )


def evaluate(
    truth: Truth,
    logits: Scores,
    point: OperatingPoint,
    *,
    unfamiliar: Truth | None = None,
    refused: Truth | None = None,
) -> Metrics:
    """Return all metrics of a model on one set of films.

    Intervals are 95 %: DeLong for the AUC, Wilson for proportions. Numbers that cannot be computed
    (a PPV if no film was called PNEUMONIA) are None. In Brier score and calibration error both
    classes have equal weight, as assumed by the probabilities.

    Args:
        truth: (n,).
        logits: (n,) of the served file.
        point: from the model's manifest.
        unfamiliar: (n,), films over the review limit of familiarity. None without limits or without
            strangeness.
        refused: (n,), films over the refusal limit. Like REVIEW films, they are left out of the
            numbers outside review.

    Raises:
        DataError: a class is missing, or a logit is not finite.
    """
    check_both_classes(truth, logits)
    probability = calibrate(logits, point.temperature)
    called = probability >= point.threshold
    low, high = point.review_band
    left = (probability >= low) & (probability < high)
    if unfamiliar is not None:
        left |= unfamiliar
    review = left if refused is None else left & ~refused
    (true_neg, false_pos), (false_neg, true_pos) = confusion_matrix(
        truth, called, labels=[False, True]
    ).tolist()
    shares = {
        "sensitivity": wilson(true_pos, true_pos + false_neg),
        "specificity": wilson(true_neg, true_neg + false_pos),
        "ppv": wilson(true_pos, true_pos + false_pos),
        "npv": wilson(true_neg, true_neg + false_neg),
        "review_share": wilson(int(review.sum()), len(review)),
        "sensitivity_outside_review": wilson(
            int((called & truth & ~left).sum()), int((truth & ~left).sum())
        ),
        "specificity_outside_review": wilson(
            int((~called & ~truth & ~left).sum()), int((~truth & ~left).sum())
        ),
    }
    named = {"auc": auc(truth, probability), **shares}
    return Metrics(
        films={"NORMAL": int((~truth).sum()), "PNEUMONIA": int(truth.sum())},
        intervals={
            name: (measured.low, measured.high) if measured else None
            for name, measured in named.items()
        },
        brier=float(brier_score_loss(truth, probability, sample_weight=equal_weights(truth))),
        calibration_error=calibration_error(truth, probability),
        confusion=Confusion(
            true_negative=true_neg,
            false_positive=false_pos,
            false_negative=false_neg,
            true_positive=true_pos,
        ),
        threshold=point.threshold,
        temperature=point.temperature,
        review_band=point.review_band,
        undecided=float(left.mean()),
        **{name: measured.value if measured else None for name, measured in named.items()},
    )


def auc(truth: Truth, scores: Scores) -> Measured:
    """Return the area under the ROC curve with its 95 % interval.

    The variance is DeLong's (DeLong, DeLong and Clarke-Pearson 1988), from each film's placement
    among the other class (Sun and Xu 2014). If it is zero, the interval is the value itself.

    Args:
        truth: (n,).
        scores: (n,), any increasing function of the logit.
    """
    positive, negative = scores[truth], scores[~truth]
    placed = placement(positive, negative), 1.0 - placement(negative, positive)
    measured = interval(float(roc_auc_score(truth, scores)), placed)
    return replace(measured, low=max(0.0, measured.low), high=min(1.0, measured.high))


def roc(truth: Truth, scores: Scores) -> tuple[Scores, Scores]:
    """Return the points of the ROC: (m,) of 1 - specificity and (m,) of sensitivity, ascending."""
    wrongly, rightly, _ = roc_curve(truth, scores)
    return wrongly, rightly


def placement(of: Scores, among: Scores) -> Scores:
    """Return for each of `of` the share of `among` below it; ties count half."""
    ordered = np.sort(among)
    below = np.searchsorted(ordered, of, side="left")
    up_to = np.searchsorted(ordered, of, side="right")
    share: Scores = (below + up_to) / (2.0 * len(among))
    return share


def interval(value: float, samples: Iterable[Scores]) -> Measured:
    """Return a value with its 95 % interval, from the means of independent samples."""
    variance = sum(_variance_of_mean(sample) for sample in samples)
    reach = Z95 * math.sqrt(variance)
    return Measured(value=value, low=value - reach, high=value + reach)


def _variance_of_mean(values: Scores) -> float:
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def wilson(hits: int, of: int) -> Measured | None:
    """Return a proportion with its 95 % score interval (Wilson 1927), or None if `of` is 0.

    >>> wilson(0, 0) is None
    True
    """
    if of == 0:
        return None
    low, high = wilson_interval(hits, of)
    return Measured(value=hits / of, low=low, high=high)


def calibration_error(truth: Truth, probability: Scores, *, bins: int = 10) -> float:
    """Return the expected calibration error of (n,) labels and (n,) probabilities, 0 to 1.

    It is the mean distance between probability and frequency over bins of equal width, weighted by
    films (Naeini et al. 2015; Guo et al. 2017). Both classes have equal weight, because the
    probabilities are calibrated for that and the numbers of films say nothing about a model.
    scikit-learn has the curve but not the number.
    """
    where = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gaps = (probability - truth) * equal_weights(truth)
    return float(np.abs(np.bincount(where, weights=gaps, minlength=bins)).sum())


def equal_weights(truth: Truth) -> Scores:
    """Return (n,) weights of films that sum to 1, half of it for each class."""
    positive = truth.sum()
    weights: Scores = np.where(truth, 0.5 / positive, 0.5 / (len(truth) - positive))
    return weights


def check_both_classes(truth: Truth, logits: Scores) -> None:
    """Check that both classes are present and all logits are finite.

    Raises:
        DataError: a class is missing, or a logit is not finite.
    """
    if truth.all() or not truth.any():
        raise DataError("films of both classes are needed to measure or to calibrate")
    if not np.isfinite(logits).all():
        raise DataError("the model gave a logit that is not finite")
