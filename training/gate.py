"""Decides whether a challenger may serve. Pure: from numbers to a verdict with reasons.

It fails closed: a number that is missing or not finite holds the challenger. Each comparison states
what must be true, so NaN always fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from worker.model.evaluation import Estimate, Metrics, PairedComparison

Evidence = Literal["point", "paired95"]
Primary = Literal["robust_auc", "auc"]
_Check = tuple[bool, str]  # whether it passed, and a description


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Minimum values for any promotion."""

    films_of_each_class: int = 50  # on the test side
    auc: float = 0.90
    sensitivity: float = 0.85
    specificity: float = 0.70
    calibration_error: float = 0.15  # a maximum


@dataclass(frozen=True, kw_only=True)
class Margins:
    """How much worse than the champion a challenger may be."""

    sensitivity: float = 0.02  # at each model's own operating point
    calibration_error: float = 0.03
    lost: float = 0.05  # share of the films the champion has right that the challenger has wrong
    undecided: float = 0.05  # share of all films REVIEW or refused
    shift: float = 0.02  # loss of AUC on swapped films, and on zoomed ones


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The requirements on a challenger."""

    primary: Primary = "robust_auc"  # must be higher than that of the champion
    evidence: Evidence = "paired95"  # what must stay within the margins: see `judge_promotion`
    floors: Floors = field(default_factory=Floors)
    margins: Margins = field(default_factory=Margins)


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The verdict on a challenger."""

    promote: bool
    reasons: tuple[str, ...]  # a description of every check, passed or not


def judge_promotion(
    challenger: Metrics,
    *,
    champion: str | None,
    comparison: PairedComparison | None = None,
    trouble: str = "",
    barred: str = "",
    rules: Rules | None = None,
) -> Promotion:
    """Decide whether a challenger may become the champion.

    If there is a champion, the challenger's primary metric must be strictly higher on the same
    films, and its differences must stay within the margins: the differences themselves with
    evidence `point`, the worse ends of their 95 % intervals with `paired95`.

    Args:
        challenger: its numbers on the test side.
        champion: the version in service, or None.
        comparison: of the two on the same films. With a champion and without a comparison, the
            challenger is held.
        trouble: why there is no comparison.
        barred: why this version may not serve whatever its numbers, or "".
        rules: None for the defaults.
    """
    rules = rules or Rules()
    checks = _check_floors(challenger, rules.floors)
    if rules.primary != "auc":  # any unknown value is treated as strict
        robust = _number(challenger.robust_auc)
        checks.append((math.isfinite(robust), f"robust AUC {robust:.4f}, must be measured"))
    if champion is None:
        checks.append((True, "no champion is in service"))
    elif comparison is None:
        why = f": {trouble}" if trouble else ""
        checks.append((False, f"it could not be compared with the champion {champion}{why}"))
    else:
        checks += _check_comparison(champion, comparison, rules)
    if barred:
        checks.append((False, barred))
    return Promotion(
        promote=all(passed for passed, _ in checks),
        reasons=tuple(f"{'ok' if passed else 'HELD'}: {reason}" for passed, reason in checks),
    )


def _check_floors(numbers: Metrics, floors: Floors) -> list[_Check]:
    checks = []
    for label in ("NORMAL", "PNEUMONIA"):
        count = _number(numbers.films.get(label))
        checks.append(
            (
                count >= floors.films_of_each_class,
                f"{count:g} {label} test films, at least {floors.films_of_each_class} needed",
            )
        )
    for name, measured, floor in (
        ("auc", numbers.auc, floors.auc),
        ("sensitivity", numbers.sensitivity, floors.sensitivity),
        ("specificity", numbers.specificity, floors.specificity),
    ):
        value = _number(measured)
        checks.append((value >= floor, f"{name} {value:.4f}, at least {floor:g} needed"))
    error = _number(numbers.calibration_error)
    checks.append(
        (
            error <= floors.calibration_error,
            f"calibration error {error:.4f}, at most {floors.calibration_error:g} allowed",
        )
    )
    return checks


def _check_comparison(champion: str, comparison: PairedComparison, rules: Rules) -> list[_Check]:
    differences = comparison.differences
    if rules.primary == "auc":
        name, primary = "AUC", _Difference.of(differences.auc)
    else:  # any unknown value is treated as strict
        name, primary = "robust AUC", _Difference.of(differences.robust_auc)
    shifted = (
        ("swapped", _Difference.of(differences.swapped_auc)),
        ("zoomed", _Difference.of(differences.zoomed_auc)),
    )
    sensitivity = _Difference.of(differences.sensitivity)
    calibration = _Difference.of(differences.calibration_error)
    lost = _Difference.of(comparison.lost)
    undecided = _Difference.of(differences.undecided)
    strict = rules.evidence != "point"  # any unknown value is treated as strict
    least = sensitivity.low if strict else sensitivity.value
    most = calibration.high if strict else calibration.value
    loss = lost.high if strict else lost.value
    left = undecided.high if strict else undecided.value
    margins = rules.margins
    judged = "the worse end" if strict else "the difference itself"
    return [
        (primary.value > 0, f"{name} {primary} against {champion}, must be higher"),
        *(
            (
                (shift.low if strict else shift.value) >= -margins.shift,
                f"AUC on {kind} films {shift}, {judged} must not be below {-margins.shift:g}",
            )
            for kind, shift in shifted
        ),
        (
            least >= -margins.sensitivity,
            f"sensitivity {sensitivity}, {judged} must not be below {-margins.sensitivity:g}",
        ),
        (
            most <= margins.calibration_error,
            f"calibration error {calibration}, {judged} must not be above "
            f"{margins.calibration_error:+g}",
        ),
        (
            loss <= margins.lost,
            f"of the films that {champion} has right it has wrong {lost:share}, {judged} must "
            f"not be above {margins.lost:g}",
        ),
        (
            left <= margins.undecided,
            f"share left to a person {undecided}, {judged} must not be above "
            f"{margins.undecided:+g}",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class _Difference:
    """A difference with its interval. NaN if missing, or if the interval is reversed."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, estimate: Estimate) -> _Difference:
        ends = (estimate.value, estimate.low, estimate.high)
        value, low, high = map(_number, ends)
        sound = low <= high  # the value may lie outside a percentile interval
        return cls(value=value, low=low if sound else math.nan, high=high if sound else math.nan)

    def __format__(self, spec: str) -> str:
        sign = "" if spec == "share" else "+"
        return f"{self.value:{sign}.4f} ({self.low:{sign}.4f} to {self.high:{sign}.4f})"


def _number(value: float | None) -> float:
    """Return a number, or NaN if it is missing or not finite. NaN fails every check."""
    return value if value is not None and math.isfinite(value) else math.nan
