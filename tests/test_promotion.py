"""Whether a model may serve: every floor holds, and so does everything that is no number."""

from __future__ import annotations

import math
from typing import Any

import pytest

from training.promotion import Floors, judge_promotion

GOOD = {
    "films": {"NORMAL": 224, "PNEUMONIA": 360},
    "auc": 0.99,
    "sensitivity": 0.95,
    "specificity": 0.92,
    "calibration_error": 0.05,
}
GUARDED = ["auc", "sensitivity", "specificity", "calibration_error"]


def held(numbers: dict[str, Any], *, champion: str | None = None) -> list[str]:
    """Return the reasons for which a model is held, having checked that there are any."""
    promotion = judge_promotion(numbers, champion=champion)
    assert not promotion.promote
    return [reason for reason in promotion.reasons if reason.startswith("HELD")]


def test_a_good_first_model_is_promoted() -> None:
    """All floors cleared and no champion: promoted, with every check listed as passed."""
    promotion = judge_promotion(GOOD, champion=None)
    assert promotion.promote
    assert len(promotion.reasons) == 7
    assert all(reason.startswith("ok: ") for reason in promotion.reasons)


def test_a_model_at_the_floors_is_promoted() -> None:
    """A floor is the least that will do, not what must be exceeded."""
    floors = Floors()
    numbers = {name: getattr(floors, name) for name in GUARDED}
    films = dict.fromkeys(("NORMAL", "PNEUMONIA"), floors.films_of_each_class)
    assert judge_promotion({**numbers, "films": films}, champion=None).promote


@pytest.mark.parametrize("name", GUARDED)
def test_each_floor_holds_alone(name: str) -> None:
    """One number a hair on the wrong side holds the model, and its reason names it."""
    floor = getattr(Floors(), name)
    worse = math.nextafter(floor, math.inf if name == "calibration_error" else -math.inf)
    (reason,) = held({**GOOD, name: worse})
    assert name.replace("_", " ") in reason


@pytest.mark.parametrize("name", [*GUARDED, "films"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.99", True, [], {}])
def test_what_is_no_number_holds(name: str, value: object) -> None:
    """NaN, infinity, null, text: none of them passes any check, high or low."""
    assert held({**GOOD, name: value})


@pytest.mark.parametrize("name", [*GUARDED, "films"])
def test_what_is_missing_holds(name: str) -> None:
    """A number that was never measured is not taken for granted."""
    assert held({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
def test_too_few_films_of_a_class_hold(label: str) -> None:
    """Perfect numbers on a handful of films tell too little."""
    (reason,) = held({**GOOD, "films": {**GOOD["films"], label: 49}})  # type: ignore[dict-item]
    assert f"49 {label} test films" in reason


def test_a_champion_in_service_is_not_replaced() -> None:
    """Numbers of one model alone cannot say that it is the better of two."""
    (reason,) = held(GOOD, champion="20260101-abcdef01")
    assert "20260101-abcdef01 is in service" in reason
