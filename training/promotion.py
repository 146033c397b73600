"""Whether a model may serve. Pure: numbers in, a verdict with its reasons out.

It fails closed: a number that is missing or not finite holds the model. Every comparison says what
must be true, so that NaN is never true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Floors:
    """Below any of these, nothing is promoted."""

    films_of_each_class: int = 50  # fewer on the test side tell too little
    auc: float = 0.90
    sensitivity: float = 0.85
    specificity: float = 0.70
    calibration_error: float = 0.15  # the one that must not be exceeded


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The verdict on a challenger."""

    promote: bool
    reasons: tuple[str, ...]  # every check that was made, passed or not, in words


def judge_promotion(
    challenger: Mapping[str, Any], *, champion: str | None, floors: Floors | None = None
) -> Promotion:
    """Decide whether a challenger becomes the champion.

    Args:
        challenger: what `evaluation.evaluate` returned for it on the test side.
        champion: the version in service, or None. Where there is one the challenger is held:
            only a comparison on the same films could tell whether it is better.
        floors: the defaults where none are given.
    """
    checks = _check_floors(challenger, floors or Floors())
    checks.append(
        (True, "no champion is in service")
        if champion is None
        else (False, f"{champion} is in service, and is replaced only by hand")
    )
    return Promotion(
        promote=all(passed for passed, _ in checks),
        reasons=tuple(f"{'ok' if passed else 'HELD'}: {reason}" for passed, reason in checks),
    )


def _check_floors(numbers: Mapping[str, Any], floors: Floors) -> list[tuple[bool, str]]:
    films = numbers.get("films")
    checks = []
    for label in ("NORMAL", "PNEUMONIA"):
        count = _number(films, label)
        checks.append(
            (
                count >= floors.films_of_each_class,
                f"{count:g} {label} test films, at least {floors.films_of_each_class} needed",
            )
        )
    for name in ("auc", "sensitivity", "specificity"):
        value, floor = _number(numbers, name), getattr(floors, name)
        checks.append((value >= floor, f"{name} {value:.4f}, at least {floor:g} needed"))
    error = _number(numbers, "calibration_error")
    checks.append(
        (
            error <= floors.calibration_error,
            f"calibration error {error:.4f}, at most {floors.calibration_error:g} allowed",
        )
    )
    return checks


def _number(numbers: object, name: str) -> float:
    """Return a number, or NaN for whatever is missing or no number. NaN passes no check."""
    value = numbers.get(name) if isinstance(numbers, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return math.nan
    return float(value)
