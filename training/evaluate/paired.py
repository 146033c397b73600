"""Compares two models on the same test films: paired differences with intervals, and lost films.

Pure: labels, patients and both models' answers go in, numbers come out. A difference is always the
challenger's number minus the champion's. scikit-learn has none of this; each function names its
source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from training.evaluate.metrics import Measured, OperatingPoint, Scores, Truth, interval, placement
from worker.model.decision import calibrate
from worker.model.evaluation import Decisions, Differences, Estimate, PairedComparison

DRAWS = 2000  # of patients, for each bootstrap interval
_CELLS = 8_000_000  # of a table of draws by films, in memory at a time
_BINS = 10  # of the calibration error, as in `metrics.calibration_error`

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One model's answers on the test films, at its own operating point."""

    probability: Scores  # (n,), calibrated, of PNEUMONIA
    called: Truth  # (n,), True for PNEUMONIA
    undecided: Truth  # (n,), True for REVIEW, or refused as not a chest X-ray

    @classmethod
    def of(
        cls, logits: Scores, point: OperatingPoint, *, unfamiliar: Truth | None = None
    ) -> Reading:
        """Apply a manifest's operating point to (n,) logits; `unfamiliar` films are undecided."""
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
) -> PairedComparison:
    """Return the comparison of two models on one set of films, without names and lost films.

    Args:
        truth: (n,), both classes.
        patients: (n,), the patient of each film: a patient's films are drawn together.
        champion: the answers of the champion.
        challenger: the answers of the challenger.
        draws: of the bootstrap.
        seed: of the bootstrap: the same films give the same intervals.

    Returns:
        Differences with 95 % intervals: of the AUC by paired DeLong, all others and the share of
        lost films by patient-clustered bootstrap. What cannot be computed is None.
    """
    per_film = _PerFilm.of(truth, champion, challenger)
    drawn = [
        per_film.differences(weights)
        | {"auc_by_patient": _auc_difference(truth, champion, challenger, weights)}
        for weights in draw_patients(truth, patients, draws=draws, seed=seed)
    ]
    delong = auc_difference(truth, champion.probability, challenger.probability)
    values = {
        name: float(value[0])
        for name, value in per_film.differences(np.ones((1, len(truth)))).items()
    } | {"auc_by_patient": delong.value}
    estimates = {}
    for name, value in values.items():
        low, high = np.quantile(np.concatenate([some[name] for some in drawn]), [0.025, 0.975])
        estimates[name] = Estimate(value=value, low=float(low), high=float(high))
    share_lost = estimates.pop("lost")
    right = [reading.called == truth for reading in (champion, challenger)]
    lost, gained = (int((right[side] & ~right[1 - side]).sum()) for side in (0, 1))
    return PairedComparison(
        patients=len(set(patients)),
        draws=draws,
        lost=share_lost,
        differences=Differences(auc=delong.estimate(), **estimates),
        decisions=Decisions(
            both_right=int((right[0] & right[1]).sum()),
            lost=lost,
            gained=gained,
            both_wrong=int((~right[0] & ~right[1]).sum()),
        ),
        mcnemar_p=mcnemar(lost, gained),
    )


def auc_difference(truth: Truth, champion: Scores, challenger: Scores) -> Measured:
    """Return the challenger's AUC minus the champion's, with its 95 % interval.

    Paired, after DeLong, DeLong and Clarke-Pearson 1988: a film that is hard for both affects both.
    The variance is that of the difference of each film's placements among the other class (Sun and
    Xu 2014). The value is computed from integers, so that it is exactly 0 for equal AUCs.
    """
    placed = [
        (placement(scores[truth], scores[~truth]), 1 - placement(scores[~truth], scores[truth]))
        for scores in (champion, challenger)
    ]
    of_positive, of_negative = (placed[1][side] - placed[0][side] for side in (0, 1))
    gained = half_pairs(truth, challenger) - half_pairs(truth, champion)
    positive = int(truth.sum())
    value = gained / (2 * positive * (len(truth) - positive))
    return interval(value, (of_positive, of_negative))


def half_pairs(truth: Truth, scores: Scores) -> int:
    """Return twice the number of pairs of both classes in the right order; ties count half."""
    ordered = np.sort(scores[~truth])
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    return sum(int(np.searchsorted(ordered, scores[truth], side=side).sum()) for side in sides)


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p of these numbers of lost and gained films (McNemar 1947).

    Under the null hypothesis each film on which the models differ is lost or gained with equal
    probability. Films are taken as independent, which films of one patient are not. So this is for
    people, not for the gate.

    >>> mcnemar(0, 0)
    1.0
    >>> mcnemar(0, 5)
    0.0625
    """
    films = lost + gained
    return float(binomtest(lost, films).pvalue) if films else 1.0


@dataclass(frozen=True, kw_only=True)
class _PerFilm:
    """Each film's contribution to the numbers of both models, (n,) each, for weighted sums.

    `gaps` are probability minus truth, (n, bins), each in the column of its bin.
    """

    positive: Floats
    negative: Floats
    more_right: Floats  # 1 if only the challenger is right, -1 if only the champion is
    more_error: Floats  # squared, the challenger's minus the champion's
    more_undecided: Floats
    right: Floats  # by the champion
    lost: Floats  # of those, wrong by the challenger
    champion_gaps: Floats
    challenger_gaps: Floats

    @classmethod
    def of(cls, truth: Truth, champion: Reading, challenger: Reading) -> _PerFilm:
        before, after = champion.called == truth, challenger.called == truth
        errors = [(reading.probability - truth) ** 2 for reading in (champion, challenger)]
        return cls(
            positive=truth.astype(np.float64),
            negative=(~truth).astype(np.float64),
            more_right=after.astype(np.float64) - before,
            more_error=errors[1] - errors[0],
            more_undecided=challenger.undecided.astype(np.float64) - champion.undecided,
            right=before.astype(np.float64),
            lost=(before & ~after).astype(np.float64),
            champion_gaps=_gaps(truth, champion),
            challenger_gaps=_gaps(truth, challenger),
        )

    def differences(self, weights: Floats) -> dict[str, Floats]:
        """Return the differences by name, (draws,) each, for weights of (draws, n).

        Both classes have equal weight in Brier score and calibration error in every draw: see
        `metrics.calibration_error`.
        """
        of_positive, of_negative = weights * self.positive, weights * self.negative
        positive, negative = of_positive.sum(axis=1), of_negative.sum(axis=1)

        def mean_of_classes(each: Floats) -> Floats:
            totals = positive, negative
            if each.ndim == 2:
                totals = positive[:, np.newaxis], negative[:, np.newaxis]
            mean: Floats = (of_positive @ each / totals[0] + of_negative @ each / totals[1]) / 2
            return mean

        errors = [
            np.abs(mean_of_classes(gaps)).sum(axis=1)
            for gaps in (self.champion_gaps, self.challenger_gaps)
        ]
        with np.errstate(invalid="ignore"):  # a champion with nothing right has nothing to lose
            lost = (weights @ self.lost) / (weights @ self.right)
        return {
            "sensitivity": of_positive @ self.more_right / positive,
            "specificity": of_negative @ self.more_right / negative,
            "brier": mean_of_classes(self.more_error),
            "calibration_error": errors[1] - errors[0],
            "undecided": weights @ self.more_undecided / (positive + negative),
            "lost": lost,
        }


def _gaps(truth: Truth, reading: Reading) -> Floats:
    where = np.minimum((reading.probability * _BINS).astype(np.int64), _BINS - 1)
    gaps = np.zeros((len(truth), _BINS))
    gaps[np.arange(len(truth)), where] = reading.probability - truth
    return gaps


def draw_patients(
    truth: Truth, patients: Sequence[str], *, draws: int, seed: int
) -> Iterator[Floats]:
    """Yield how often each film was drawn, (some draws, n), `draws` in all.

    Whole patients are drawn with replacement (Field and Welsh 2007, the cluster bootstrap), within
    three strata: patients with films of one class, of the other, and of both. So no draw lacks a
    class.
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
    """Return (draws,) the challenger's AUC minus the champion's, with (draws, n) film weights."""
    areas = [weighted_auc(truth, one.probability, weights) for one in (champion, challenger)]
    return areas[1] - areas[0]


def weighted_auc(truth: Truth, scores: Scores, weights: Floats) -> Floats:
    """Return (draws,) AUCs: the weighted share of pairs in the right order; ties count half."""
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
