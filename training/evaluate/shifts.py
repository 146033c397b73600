"""How good models are on test films that have what marks the other class, and on zoomed ones.

Robust AUC is the mean of three AUCs: of the films as they are, swapped, and zoomed. All intervals
of these are by patient-clustered bootstrap, and a difference between two models is paired.
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
    """What the changed test films say of one model."""

    shifts: Shifts
    areas: Mapping[str, Estimate]  # AUC swapped, zoomed and robust, by their names in `Metrics`
    error: str = ""  # why it could not be measured; then nothing of the above is known

    def within(self, numbers: Metrics) -> Metrics:
        """Return a model's numbers with those AUCs and their intervals among them."""
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
        packages: the challenger, and others beside it.
        scans: the test films.
        donors: films of the train side.
        framing: how the films of each class are cropped.
        seed: of the draw of donors.
        draws: of the bootstrap.
        score: what scores the films.

    Returns:
        What the films say of each package, and the first one's AUCs less the second one's, by name.
        What cannot be computed is None in both.

    Raises:
        ModelPackageError: a film was replaced, or a process failed.
        DataError: there is no film to take grey levels from.
    """
    plan = plan_reframings(scans, donors, framing, seed=seed)
    truth, patients = is_positive(scans), [scan.patient for scan in scans]
    under: list[UnderShift] = []
    heard: list[_Heard] = []
    for package, scored in zip(packages, score(packages, scans, plan), strict=True):
        if scored.error:
            under.append(UnderShift(shifts=Shifts(), areas={}, error=scored.error))
            continue
        one = _Heard.of(truth, read_manifest(package), scored)
        heard.append(one)
        areas = _estimate([one], truth, patients, draws=draws)
        under.append(UnderShift(shifts=one.shifts(truth, framing, seed), areas=areas))
    if len(heard) < 2 or under[0].error or under[1].error:
        return under, {}
    return under, _estimate(heard[:2], truth, patients, draws=draws)


@dataclass(frozen=True, kw_only=True)
class _View:
    """What a package makes of the films after one change, (n,) each."""

    logits: Scores
    strangeness: Scores  # NaN from a package without limits
    unread: Truth  # films that cannot be read then

    @classmethod
    def of(cls, scores: Sequence[Score | str]) -> Self:
        """Take in scores, and the codes of films that cannot be read."""
        read = [None if isinstance(one, str) else one for one in scores]
        strange = [None if one is None else one.strangeness for one in read]
        return cls(
            logits=np.array([np.nan if one is None else one.logit for one in read]),
            strangeness=np.array([np.nan if one is None else one for one in strange]),
            unread=np.array([one is None for one in read], dtype=np.bool_),
        )

    def where(self, chosen: Truth, other: Self) -> _View:
        """Return this view of the chosen films, and the other one of the rest."""
        return _View(
            logits=np.where(chosen, self.logits, other.logits),
            strangeness=np.where(chosen, self.strangeness, other.strangeness),
            unread=np.where(chosen, self.unread, other.unread),
        )

    def numbers(self, truth: Truth, manifest: Manifest) -> Shifted | None:
        """Return the numbers of the films that can be read; None where it gives no sound ones."""
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
        except DataError:  # a class is missing, or a logit is no number
            return None
        return Shifted(unreadable=int(self.unread.sum()), **dict(found))


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What a package makes of the films as they are, and after each change."""

    manifest: Manifest
    untouched: _View
    conflict: _View
    toned: _View
    swapped: _View
    zoomed: Mapping[str, _View]  # by the label of the films that are cropped

    @classmethod
    def of(cls, truth: Truth, manifest: Manifest, scored: ScoredByKind) -> Self:
        """Take in what a package's scores say."""
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
        """Return the numbers of each change."""
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
        """Return the views that make up robust AUC: as they are, swapped, zoomed either way."""
        return (self.untouched, self.swapped, *(self.zoomed[label] for label in CLASSES))

    def probabilities(self, rows: Truth) -> list[Scores]:
        """Return the probability of PNEUMONIA of some films, in each of those views."""
        point = OperatingPoint.of(self.manifest)
        return [calibrate(view.logits[rows], point.temperature) for view in self.judged_by()]


def _estimate(
    models: Sequence[_Heard], truth: Truth, patients: Sequence[str], *, draws: int
) -> dict[str, Estimate]:
    """Return the AUCs of the films that the models can read in every view: see `estimate_areas`.

    A model that gives no number for one of them has no AUC.
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
    """Return a model's AUC swapped, zoomed and robust; or by how much they exceed another model's.

    Args:
        truth: (n,), both classes.
        patients: (n,), whose film each is: films of a patient are drawn together.
        model: (n,) scores as they are, swapped, and zoomed in either class.
        less: the same of the other model.
        draws: of the bootstrap, whose seed is always the same.

    Returns:
        The AUCs by their names in `Metrics`, with 95 % intervals.
    """
    both = [model] if less is None else [model, less]
    drawn = [
        _combine(*([weighted_auc(truth, one, weights) for one in views] for views in both))
        for weights in draw_patients(truth, patients, draws=draws, seed=0)
    ]
    # The values are of whole numbers, so that of equal models it is 0 and no hair above.
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
    """Return areas by name from those in each view, less the second model's. Robust is a sum."""
    untouched, swapped, *zoomed = of_first
    worse = np.minimum(*zoomed)
    areas = {"swapped_auc": swapped, "zoomed_auc": worse, "robust_auc": untouched + swapped + worse}
    if of_second is None:
        return areas
    others = _combine(of_second)
    return {name: area - others[name] for name, area in areas.items()}


def _beyond(strangeness: Scores, limit: float) -> Truth:
    # Written so that NaN, of which the worker decides nothing, is not decided here either.
    beyond: Truth = ~(strangeness <= limit)
    return beyond


def _ends(estimate: Estimate) -> Ends | None:
    if estimate.low is None or estimate.high is None:
        return None
    return estimate.low, estimate.high
