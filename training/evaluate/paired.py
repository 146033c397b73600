"""Two models on the same test films: paired differences with intervals, and the films lost.

Pure: labels, patients and what both models make of each film go in, plain values come out. A
difference is always the challenger's number less the champion's. None of this is in scikit-learn;
each function names its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from training.evaluate.metrics import Measured, OperatingPoint, Scores, Truth, interval, placement
from worker.model.decision import calibrate

DRAWS = 2000  # of patients, for each bootstrap interval
_CELLS = 8_000_000  # of a table of draws by films that is held at once
_BINS = 10  # of the calibration error, as in `evaluation`

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What one model makes of the test films, at its own operating point."""

    probability: Scores  # (n,), calibrated, of PNEUMONIA
    called: Truth  # (n,), True where the label is PNEUMONIA
    undecided: Truth  # (n,), True where a person has to look: REVIEW, or refused as no chest film

    @classmethod
    def of(
        cls, logits: Scores, point: OperatingPoint, *, unfamiliar: Truth | None = None
    ) -> Reading:
        """Read (n,) logits as the package's manifest says; `unfamiliar` are beyond its limits."""
        probability = calibrate(logits, point.temperature)
        low, high = point.review_band
        review = (probability >= low) & (probability < high)
        return cls(
            probability=probability,
            called=probability >= point.threshold,
            undecided=review if unfamiliar is None else review | unfamiliar,
        )


def compare(
    truth: Truth,
    patients: Sequence[str],
    champion: Reading,
    challenger: Reading,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return everything we say of two models on one set of films, as plain values.

    Args:
        truth: (n,), both classes.
        patients: (n,), whose film each is: films of a patient are drawn together.
        champion: what serves.
        challenger: what may.
        draws: of the bootstrap.
        seed: of the bootstrap: the same films give the same intervals.

    Returns:
        `differences`, each with `value`, `low` and `high` (95 %): `auc` by paired DeLong, and by
        patient-clustered bootstrap `auc_by_patient`, `sensitivity`, `specificity`, `brier`,
        `calibration_error` and `undecided`; `lost`, likewise, the share of the films that the
        champion has right and the challenger wrong; `decisions`, films by who has them right;
        `mcnemar_p`.
    """
    right = [reading.called == truth for reading in (champion, challenger)]
    sums = _Sums.of(truth, champion, challenger)
    drawn = [
        np.stack(
            [*sums.differences(weights), _auc_difference(truth, champion, challenger, weights)]
        )
        for weights in _draw_patients(truth, patients, draws=draws, seed=seed)
    ]
    bounds = np.quantile(np.concatenate(drawn, axis=1), [0.025, 0.975], axis=1)
    delong = auc_difference(truth, champion.probability, challenger.probability)
    values = [*sums.differences(np.ones((1, len(truth))))[:, 0], delong.value]
    names = [*_Sums.NAMES, "auc_by_patient"]
    named = {
        name: _plain(value, low, high)
        for name, value, low, high in zip(names, values, *bounds, strict=True)
    }
    lost, gained = (int((right[side] & ~right[1 - side]).sum()) for side in (0, 1))
    return {
        "patients": len(set(patients)),
        "draws": draws,
        "lost": named.pop("lost"),
        "differences": {"auc": _plain(delong.value, delong.low, delong.high), **named},
        "decisions": {
            "both_right": int((right[0] & right[1]).sum()),
            "lost": lost,
            "gained": gained,
            "both_wrong": int((~right[0] & ~right[1]).sum()),
        },
        "mcnemar_p": mcnemar(lost, gained),
    }


def _plain(value: float, low: float, high: float) -> dict[str, float | None]:
    """Return a number and its interval for JSON: None for what could not be computed."""
    numbers = {"value": value, "low": low, "high": high}
    return {
        name: float(number) if math.isfinite(number) else None for name, number in numbers.items()
    }


def auc_difference(truth: Truth, champion: Scores, challenger: Scores) -> Measured:
    """Return challenger's AUC less champion's, with its 95 % interval.

    Paired, after DeLong, DeLong and Clarke-Pearson 1988: a film that is hard for both weighs in
    both. The variance is that of the difference of each film's placements among the other class
    (Sun and Xu 2014). The value itself is of whole numbers, so that of equal AUCs it is 0 and no
    hair above.
    """
    placed = [
        (placement(scores[truth], scores[~truth]), 1 - placement(scores[~truth], scores[truth]))
        for scores in (champion, challenger)
    ]
    of_positive, of_negative = (placed[1][side] - placed[0][side] for side in (0, 1))
    gained = _half_pairs(truth, challenger) - _half_pairs(truth, champion)
    positive = int(truth.sum())
    value = gained / (2 * positive * (len(truth) - positive))
    return interval(value, (of_positive, of_negative))


def _half_pairs(truth: Truth, scores: Scores) -> int:
    """Return twice the pairs of both classes that are ordered rightly, a tie being half a pair."""
    ordered = np.sort(scores[~truth])
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    return sum(int(np.searchsorted(ordered, scores[truth], side=side).sum()) for side in sides)


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p of so many films lost and gained (McNemar 1947).

    By chance each film on which two models differ is lost or gained like a coin's two sides. It
    takes films for independent, which films of one patient are not: for people, not for the gate.

    >>> mcnemar(0, 0)
    1.0
    >>> mcnemar(0, 5)
    0.0625
    """
    films = lost + gained
    tail = sum(math.comb(films, count) for count in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / (1 << films))


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Columns of numbers for each film, whose weighed sums give every number but the AUC."""

    NAMES = ("sensitivity", "specificity", "brier", "calibration_error", "undecided", "lost")

    shares: Floats  # (n, 9): see `of`
    gaps: Floats  # (n, 2 classes * 2 models * bins): probability less truth, in its bin's column

    @classmethod
    def of(cls, truth: Truth, champion: Reading, challenger: Reading) -> _Sums:
        right = [reading.called == truth for reading in (champion, challenger)]
        more_right = right[1].astype(np.float64) - right[0]
        errors = [(reading.probability - truth) ** 2 for reading in (champion, challenger)]
        more_wrong = errors[1] - errors[0]
        columns = (
            *(truth, more_right * truth, ~truth, more_right * ~truth),
            *(more_wrong * truth, more_wrong * ~truth),
            *(right[0], right[0] & ~right[1]),
            challenger.undecided.astype(np.float64) - champion.undecided,
        )
        gaps = np.zeros((len(truth), 2, 2, _BINS))
        films, side = np.arange(len(truth)), np.where(truth, 0, 1)
        for model, reading in enumerate((champion, challenger)):
            where = np.minimum((reading.probability * _BINS).astype(np.int64), _BINS - 1)
            gaps[films, side, model, where] = reading.probability - truth
        return cls(
            shares=np.stack(columns, axis=1).astype(np.float64),
            gaps=gaps.reshape(len(truth), -1),
        )

    def differences(self, weights: Floats) -> Floats:
        """Return (6, draws), in the order of `NAMES`, for weights of (draws, n)."""
        sums = (weights @ self.shares).T
        # Both classes weigh the same, whatever was drawn: see `evaluation.calibration_error`.
        positive, negative = (weights @ self.gaps).reshape(-1, 2, 2, _BINS).swapaxes(0, 1)
        films = sums[[0, 2]][:, :, np.newaxis, np.newaxis]
        gaps = np.abs(positive / films[0] + negative / films[1]).sum(axis=2) / 2
        brier = (sums[4] / sums[0] + sums[5] / sums[2]) / 2
        with np.errstate(invalid="ignore"):  # a champion with nothing right has nothing to lose
            lost = sums[7] / sums[6]
        return np.stack(
            [
                *(sums[1] / sums[0], sums[3] / sums[2]),
                *(brier, gaps[:, 1] - gaps[:, 0]),
                *(sums[8] / (sums[0] + sums[2]), lost),
            ]
        )


def _draw_patients(
    truth: Truth, patients: Sequence[str], *, draws: int, seed: int
) -> Iterator[Floats]:
    """Yield how often each film was drawn, (some draws, n), until there were `draws` of them.

    Whole patients are drawn with replacement (Field and Welsh 2007, the cluster bootstrap), apart
    for those with films of one class, of the other and of both, so that no draw lacks a class.
    """
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    has = [np.bincount(patient, weights=side, minlength=len(names)) > 0 for side in (truth, ~truth)]
    kind = has[0] + 2 * has[1]
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // len(truth))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        weights = np.zeros((count, len(names)))
        for members in (np.flatnonzero(kind == value) for value in (1, 2, 3)):
            if len(members):
                size = (count, len(members))
                picks = generator.integers(0, len(members), size=size)
                picks += np.arange(count)[:, np.newaxis] * len(members)
                times = np.bincount(picks.ravel(), minlength=count * len(members))
                weights[:, members] = times.reshape(size)
        yield weights[:, patient]


def _auc_difference(
    truth: Truth, champion: Reading, challenger: Reading, weights: Floats
) -> Floats:
    """Return (draws,) challenger's AUC less champion's, with films weighed by (draws, n)."""
    areas = [_weighted_auc(truth, one.probability, weights) for one in (champion, challenger)]
    return areas[1] - areas[0]


def _weighted_auc(truth: Truth, scores: Scores, weights: Floats) -> Floats:
    """Return (draws,) AUCs: the weighed share of pairs ordered rightly, ties counting half."""
    order = np.argsort(scores[~truth], kind="stable")
    ordered = scores[~truth][order]
    negative = weights[:, ~truth][:, order]
    before = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(negative, axis=1)], axis=1)
    below = before[:, np.searchsorted(ordered, scores[truth], side="left")]
    up_to = before[:, np.searchsorted(ordered, scores[truth], side="right")]
    positive = weights[:, truth]
    pairs = positive.sum(axis=1) * before[:, -1]
    areas: Floats = (positive * (below + up_to)).sum(axis=1) / (2 * pairs)
    return areas
