"""Measures models on test films with framing and grey levels of the other class, and zoomed.

Robust AUC is the mean of three AUCs: of the films as they are, swapped, and zoomed. Intervals are
by patient-clustered bootstrap; a difference between two models is paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from training.data.sources import CLASSES
from training.data.splits import LabelledScan
from training.evaluate.head_to_head import is_positive
from training.evaluate.metrics import OperatingPoint, Scores, Truth, evaluate
from training.evaluate.paired import DRAWS, draw_patients, half_pairs, weighted_auc
from training.evaluate.reframed import Framing, Kind, plan_reframings
from training.evaluate.scoring import UNTOUCHED, ScoredByKind, ScoreReframed, score_reframed
from worker.errors import DataError
from worker.model.decision import Score, calibrate
from worker.model.evaluation import Ends, Estimate, Metrics, Shifted, Shifts
from worker.model.manifest import NEGATIVE, POSITIVE, Manifest, read_manifest

SEED = 0  # of the draw of donors, the same every night
AREAS = ("swapped_auc", "zoomed_auc", "robust_auc")
_PARTS = 3  # of robust AUC


@dataclass(frozen=True, kw_only=True)
class UnderShift:
    """One model's results on the changed test films."""

    shifts: Shifts
    areas: Mapping[str, Estimate]  # AUC swapped, zoomed and robust, by name in `Metrics`
    error: str = ""  # why it could not be measured; the rest is empty then

    def within(self, numbers: Metrics) -> Metrics:
        """Return a model's metrics with those AUCs and their intervals added."""
        values = {name: one.value for name, one in self.areas.items()}
        ends = {name: _ends(one) for name, one in self.areas.items()}
        intervals = {**numbers.intervals, **ends}
        return numbers.model_copy(update={**values, "intervals": intervals})


def measure_shifts(
    packages: Sequence[Path],
    scans: Sequence[LabelledScan],
    donors: Sequence[LabelledScan],
    framing: Framing,
    *,
    seed: int = SEED,
    draws: int = DRAWS,
    score: ScoreReframed = score_reframed,
) -> tuple[list[UnderShift], dict[str, Estimate]]:
    """Measure packages on test films as they are, reframed, and zoomed.

    Args:
        packages: the challenger, and others to compare.
        scans: the test films.
        donors: films of the train side.
        framing: the crop of each class.
        seed: of the draw of donors.
        draws: of the bootstrap.
        score: scores the films.

    Returns:
        The results of each package, and the first one's AUCs minus the second one's, by name. What
        cannot be computed is None in both.

    Raises:
        ModelPackageError: a film was replaced, or a process failed.
        DataError: there is no film to take grey levels from.
    """
    plan = plan_reframings(scans, donors, framing, seed=seed)
    truth, patients = is_positive(scans), [scan.patient for scan in scans]
    under: list[UnderShift] = []
    answers: list[_Answers] = []
    for package, scored in zip(packages, score(packages, scans, plan), strict=True):
        if scored.error:
            under.append(UnderShift(shifts=Shifts(), areas={}, error=scored.error))
            continue
        one = _Answers.of(truth, read_manifest(package), scored)
        answers.append(one)
        areas = _estimate([one], truth, patients, draws=draws)
        under.append(UnderShift(shifts=one.shifts(truth, framing, seed), areas=areas))
    if len(answers) < 2 or under[0].error or under[1].error:
        return under, {}
    return under, _estimate(answers[:2], truth, patients, draws=draws)


@dataclass(frozen=True, kw_only=True)
class _View:
    """A package's answers on the films after one change, (n,) each."""

    logits: Scores
    strangeness: Scores  # NaN from a package without limits
    unread: Truth  # films that cannot be read after the change

    @classmethod
    def of(cls, scores: Sequence[Score | str]) -> Self:
        """Convert scores, and refusal codes of films that cannot be read."""
        read = [None if isinstance(one, str) else one for one in scores]
        strange = [None if one is None else one.strangeness for one in read]
        return cls(
            logits=np.array([np.nan if one is None else one.logit for one in read]),
            strangeness=np.array([np.nan if one is None else one for one in strange]),
            unread=np.array([one is None for one in read], dtype=np.bool_),
        )

    def where(self, chosen: Truth, other: Self) -> _View:
        """Return this view of the chosen films and the other view of the rest."""
        return _View(
            logits=np.where(chosen, self.logits, other.logits),
            strangeness=np.where(chosen, self.strangeness, other.strangeness),
            unread=np.where(chosen, self.unread, other.unread),
        )

    def numbers(self, truth: Truth, manifest: Manifest) -> Shifted | None:
        """Return the metrics of the readable films; None if they cannot be computed."""
        read, limits = ~self.unread, manifest.familiar
        strange = self.strangeness[read]
        try:
            found = evaluate(
                truth[read],
                self.logits[read],
                OperatingPoint.of(manifest),
                unfamiliar=None if limits is None else _beyond(strange, limits.review),
                refused=None if limits is None else _beyond(strange, limits.refuse),
            )
        except DataError:  # a class is missing, or a logit is not finite
            return None
        return Shifted(unreadable=int(self.unread.sum()), **dict(found))


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """A package's answers on the films as they are, and after each change."""

    manifest: Manifest
    untouched: _View
    conflict: _View
    toned: _View
    swapped: _View
    zoomed: Mapping[str, _View]  # by the label of the films cropped

    @classmethod
    def of(cls, truth: Truth, manifest: Manifest, scored: ScoredByKind) -> Self:
        """Convert a package's scores."""
        views = {name: _View.of(scores) for name, scores in scored.scores.items()}
        untouched, zoomed = views[UNTOUCHED], views[Kind.ZOOMED]
        return cls(
            manifest=manifest,
            untouched=untouched,
            conflict=views[Kind.CONFLICT],
            toned=views[Kind.TONED],
            swapped=views[Kind.SWAPPED],
            zoomed={
                NEGATIVE: zoomed.where(~truth, untouched),
                POSITIVE: zoomed.where(truth, untouched),
            },
        )

    def shifts(self, truth: Truth, framing: Framing, seed: int) -> Shifts:
        """Return the metrics after each change."""
        swaps = not framing.left_out
        return Shifts(
            seed=seed,
            crops={
                label: (crop.height, crop.width)
                for label, crop in (framing.crops if swaps else {}).items()
            },
            framing_left_out=framing.left_out,
            untouched=self.untouched.numbers(truth, self.manifest),
            conflict=self.conflict.numbers(truth, self.manifest) if swaps else None,
            toned=self.toned.numbers(truth, self.manifest),
            swapped=self.swapped.numbers(truth, self.manifest),
            zoomed={
                label: found
                for label, view in self.zoomed.items()
                if (found := view.numbers(truth, self.manifest)) is not None
            },
        )

    def judged_by(self) -> tuple[_View, ...]:
        """Return the views of robust AUC: as they are, swapped, zoomed in either class."""
        return (self.untouched, self.swapped, *(self.zoomed[label] for label in CLASSES))

    def probabilities(self, rows: Truth) -> list[Scores]:
        """Return the probability of PNEUMONIA of these films in each of those views."""
        point = OperatingPoint.of(self.manifest)
        return [calibrate(view.logits[rows], point.temperature) for view in self.judged_by()]


def _estimate(
    models: Sequence[_Answers], truth: Truth, patients: Sequence[str], *, draws: int
) -> dict[str, Estimate]:
    """Return the AUCs over films that the models can read in every view: see `estimate_areas`.

    A model with a logit that is not finite has no AUC.
    """
    views = [view for model in models for view in model.judged_by()]
    read = ~np.logical_or.reduce([view.unread for view in views])
    of_read = truth[read]
    sound = all(np.isfinite(view.logits[read]).all() for view in views)
    if not sound or of_read.all() or not of_read.any():
        return {name: Estimate() for name in AREAS}
    whose = [name for name, one in zip(patients, read, strict=True) if one]
    said = [model.probabilities(read) for model in models]
    return estimate_areas(of_read, whose, *said, draws=draws)


def estimate_areas(
    truth: Truth,
    patients: Sequence[str],
    model: Sequence[Scores],
    less: Sequence[Scores] | None = None,
    *,
    draws: int = DRAWS,
) -> dict[str, Estimate]:
    """Return a model's swapped, zoomed and robust AUC, or their differences from another model's.

    Args:
        truth: (n,), both classes.
        patients: (n,), the patient of each film: a patient's films are drawn together.
        model: (n,) scores as they are, swapped, and zoomed in either class.
        less: the same of the other model.
        draws: of the bootstrap, with a fixed seed.

    Returns:
        The AUCs by name in `Metrics`, with 95 % intervals.
    """
    both = [model] if less is None else [model, less]
    drawn = [
        _combine(*([weighted_auc(truth, one, weights) for one in views] for views in both))
        for weights in draw_patients(truth, patients, draws=draws, seed=0)
    ]
    # Values are computed from integers, so that the difference of equal models is exactly 0.
    counted = _combine(*([np.array(half_pairs(truth, one)) for one in views] for views in both))
    positive = int(truth.sum())
    pairs = 2 * positive * (len(truth) - positive)
    estimates = {}
    for name in AREAS:
        parts = _PARTS if name == "robust_auc" else 1
        ends = np.quantile(np.concatenate([some[name] for some in drawn]), [0.025, 0.975]) / parts
        estimates[name] = Estimate(
            value=float(counted[name]) / (parts * pairs), low=float(ends[0]), high=float(ends[1])
        )
    return estimates


def _combine(
    of_first: Sequence[npt.NDArray[Any]], of_second: Sequence[npt.NDArray[Any]] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return areas by name, minus the second model's. `robust_auc` is a sum here."""
    untouched, swapped, *zoomed = of_first
    worse = np.minimum(*zoomed)
    areas = {"swapped_auc": swapped, "zoomed_auc": worse, "robust_auc": untouched + swapped + worse}
    if of_second is None:
        return areas
    others = _combine(of_second)
    return {name: area - others[name] for name, area in areas.items()}


def _beyond(strangeness: Scores, limit: float) -> Truth:
    # Written so that NaN counts as over the limit.
    beyond: Truth = ~(strangeness <= limit)
    return beyond


def _ends(estimate: Estimate) -> Ends | None:
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high
