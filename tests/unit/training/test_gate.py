"""Whether a model may serve: every floor and margin holds, and so does what is no number."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from training.gate import Evidence, Floors, Margins, Primary, Promotion, Rules, judge_promotion
from worker.model.evaluation import Metrics, PairedComparison

GOOD: dict[str, Any] = {
    "films": {"NORMAL": 224, "PNEUMONIA": 360},
    "auc": 0.99,
    "robust_auc": 0.97,
    "sensitivity": 0.95,
    "specificity": 0.92,
    "calibration_error": 0.05,
}
CHAMPION = "20260101-abcdef01"
BETTER: dict[str, Any] = {
    "differences": {
        "auc": {"value": 0.001, "low": -0.002, "high": 0.004},
        "swapped_auc": {"value": 0.004, "low": -0.01, "high": 0.02},
        "zoomed_auc": {"value": 0.002, "low": -0.008, "high": 0.01},
        "robust_auc": {"value": 0.003, "low": -0.004, "high": 0.01},
        "sensitivity": {"value": 0.0, "low": -0.01, "high": 0.01},
        "calibration_error": {"value": 0.002, "low": -0.01, "high": 0.01},
        "undecided": {"value": 0.01, "low": -0.01, "high": 0.03},
    },
    "lost": {"value": 0.01, "low": 0.004, "high": 0.02},
}
# Each guard rail: where its number is, the margin's name, the sign of what is worse, and which
# end of the interval is the worse one.
RAILS = [
    (("differences", "sensitivity"), "sensitivity", -1, "low"),
    (("differences", "calibration_error"), "calibration_error", 1, "high"),
    (("differences", "undecided"), "undecided", 1, "high"),
    (("lost",), "lost", 1, "high"),
    (("differences", "swapped_auc"), "shift", -1, "low"),
    (("differences", "zoomed_auc"), "shift", -1, "low"),
]
GUARDED = ["auc", "sensitivity", "specificity", "calibration_error"]


def held(numbers: dict[str, Any]) -> list[str]:
    """Return the reasons for which a model is held, having checked that there are any."""
    promotion = judge_promotion(Metrics(**numbers), champion=None)
    assert not promotion.promote
    return [reason for reason in promotion.reasons if reason.startswith("HELD")]


def test_a_good_first_model_is_promoted() -> None:
    """All floors cleared and no champion: promoted, with every check listed as passed."""
    promotion = judge_promotion(Metrics(**GOOD), champion=None)
    assert promotion.promote
    assert len(promotion.reasons) == 8
    assert all(reason.startswith("ok: ") for reason in promotion.reasons)


def test_a_model_at_the_floors_is_promoted() -> None:
    """A floor is the least that will do, not what must be exceeded."""
    floors = Floors()
    numbers: dict[str, Any] = {name: getattr(floors, name) for name in GUARDED}
    films = dict.fromkeys(("NORMAL", "PNEUMONIA"), floors.films_of_each_class)
    assert judge_promotion(Metrics(**numbers, films=films, robust_auc=0.5), champion=None).promote


@pytest.mark.parametrize("name", GUARDED)
def test_each_floor_holds_alone(name: str) -> None:
    """One number a hair on the wrong side holds the model, and its reason names it."""
    floor = getattr(Floors(), name)
    worse = math.nextafter(floor, math.inf if name == "calibration_error" else -math.inf)
    (reason,) = held({**GOOD, name: worse})
    assert name.replace("_", " ") in reason


@pytest.mark.parametrize("name", [*GUARDED, "films", "robust_auc"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.99", True, [], {}])
def test_what_is_no_number_holds(name: str, value: object) -> None:
    """NaN, infinity, null, text: none of them passes any check, high or low."""
    assert held({**GOOD, name: value})


@pytest.mark.parametrize("name", [*GUARDED, "films", "robust_auc"])
def test_what_is_missing_holds(name: str) -> None:
    """A number that was never measured is not taken for granted."""
    assert held({key: value for key, value in GOOD.items() if key != name})


@pytest.mark.parametrize("label", ["NORMAL", "PNEUMONIA"])
def test_too_few_films_of_a_class_hold(label: str) -> None:
    """Perfect numbers on a handful of films tell too little."""
    (reason,) = held({**GOOD, "films": {**GOOD["films"], label: 49}})
    assert f"49 {label} test films" in reason


def compared(
    path: tuple[str, ...] = (),
    changes: Mapping[str, object] = MappingProxyType({}),
    *,
    evidence: Evidence = "paired95",
    primary: Primary = "robust_auc",
    barred: str = "",
) -> Promotion:
    """Judge a challenger that is better, but for changes to one number of the comparison."""
    comparison: Any = copy.deepcopy(BETTER)
    place = comparison
    for name in path:
        place = place[name]
    place.update(changes)
    rules = Rules(primary=primary, evidence=evidence)
    return judge_promotion(
        Metrics(**GOOD),
        champion=CHAMPION,
        comparison=PairedComparison(**comparison),
        barred=barred,
        rules=rules,
    )


def reasons_held(promotion: Promotion) -> list[str]:
    """Return the reasons for which a challenger was held, having checked that there are any."""
    assert not promotion.promote
    return [reason for reason in promotion.reasons if reason.startswith("HELD")]


@pytest.mark.parametrize("evidence", ["point", "paired95"])
def test_a_better_challenger_is_promoted(evidence: Evidence) -> None:
    """Better and within every margin, at either level of evidence; each check is listed."""
    promotion = compared(evidence=evidence)
    assert promotion.promote
    assert len(promotion.reasons) == 7 + 7
    assert all(reason.startswith("ok: ") for reason in promotion.reasons)
    better = f"robust AUC +0.0030 (-0.0040 to +0.0100) against {CHAMPION}, must be higher"
    assert promotion.reasons[7] == f"ok: {better}"


def test_the_primary_metric_may_be_the_auc_of_films_as_they_are() -> None:
    """Then robust AUC may be lower, or missing; swapped and zoomed keep their margins."""
    assert compared(("differences", "robust_auc"), {"value": -0.1}, primary="auc").promote
    assert compared(("differences", "robust_auc"), {"value": None}, primary="auc").promote
    assert not compared(("differences", "auc"), {"value": 0.0}, primary="auc").promote
    assert not compared(("differences", "swapped_auc"), {"low": None}, primary="auc").promote
    without = Metrics(**{**GOOD, "robust_auc": None})
    assert judge_promotion(without, champion=None, rules=Rules(primary="auc")).promote
    assert not judge_promotion(without, champion=None).promote


def test_a_lower_auc_on_films_as_they_are_is_no_reason_to_hold() -> None:
    """What the shortcuts gave may go; the floor stays."""
    assert compared(("differences", "auc"), {"value": -0.02, "low": -0.03}).promote


def test_numbers_of_one_model_alone_replace_no_champion() -> None:
    """Without a comparison on the same films nothing says which is the better of two."""
    (reason,) = reasons_held(judge_promotion(Metrics(**GOOD), champion=CHAMPION))
    assert reason == f"HELD: it could not be compared with the champion {CHAMPION}"
    told = judge_promotion(Metrics(**GOOD), champion=CHAMPION, trouble="its weights are damaged")
    assert reasons_held(told)[0].endswith(": its weights are damaged")


@pytest.mark.parametrize("evidence", ["point", "paired95"])
@pytest.mark.parametrize("primary", ["robust_auc", "auc"])
@pytest.mark.parametrize("value", [0.0, -0.0, -1e-12, -0.01])
def test_an_equal_challenger_is_held(value: float, primary: Primary, evidence: Evidence) -> None:
    """Strictly better: the same AUC is no reason to change what serves."""
    promotion = compared(
        ("differences", primary), {"value": value}, primary=primary, evidence=evidence
    )
    (reason,) = reasons_held(promotion)
    assert "must be higher" in reason


def test_the_least_improvement_will_do() -> None:
    """A challenger that is better by a hair, and no worse within the margins, is promoted."""
    assert compared(("differences", "robust_auc"), {"value": 5e-324}).promote


@pytest.mark.parametrize(("path", "margin", "worse", "end"), RAILS)
def test_each_margin_holds_alone(path: tuple[str, ...], margin: str, worse: int, end: str) -> None:
    """At the margin it passes, a hair beyond it holds: at `point` its value, else its worse end."""
    edge = worse * getattr(Margins(), margin)
    beyond = math.nextafter(edge, worse * math.inf)
    assert compared(path, {"value": edge}, evidence="point").promote
    assert len(reasons_held(compared(path, {"value": beyond}, evidence="point"))) == 1
    assert compared(path, {end: edge}).promote
    assert len(reasons_held(compared(path, {end: beyond}))) == 1


@pytest.mark.parametrize(("path", "margin", "worse", "end"), RAILS)
def test_at_point_the_interval_has_no_say(
    path: tuple[str, ...], margin: str, worse: int, end: str
) -> None:
    """What holds at `paired95` for want of films passes at `point`."""
    wide = {end: worse * (getattr(Margins(), margin) + 0.5)}
    assert compared(path, wide, evidence="point").promote
    assert not compared(path, wide).promote


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.001", True, [], {}])
@pytest.mark.parametrize(
    ("path", "name", "evidence"),
    [
        (("differences", "robust_auc"), "value", "point"),
        (("differences", "robust_auc"), "value", "paired95"),
        *((path, "value", "point") for path, *_ in RAILS),
        *((path, end, "paired95") for path, *_, end in RAILS),
        ((), "differences", "paired95"),
        ((), "lost", "point"),
    ],
)
def test_what_is_no_number_holds_the_champion(
    path: tuple[str, ...], name: str, evidence: Evidence, value: object
) -> None:
    """Whatever is missing from a comparison, or is no number, cannot promote."""
    reasons_held(compared(path, {name: value}, evidence=evidence))


def test_an_interval_upside_down_holds() -> None:
    """A low end above the high one is a mistake somewhere, not evidence."""
    assert not compared(("differences", "sensitivity"), {"low": 0.02, "high": -0.5}).promote


def test_evidence_of_an_unknown_kind_is_read_as_the_stricter() -> None:
    """A misspelt level never promotes more than the default would."""
    wide = {"high": 0.5}
    assert not compared(("lost",), wide, evidence="points").promote  # type: ignore[arg-type]
    none = ("differences", "robust_auc"), {"value": None}
    assert not compared(*none, primary="AUC").promote  # type: ignore[arg-type]


def test_a_version_that_is_barred_never_serves_again() -> None:
    """Whatever its numbers, and with the reason in words."""
    (reason,) = reasons_held(compared(barred="it was rolled back from: lost its way"))
    assert "rolled back from: lost its way" in reason
    assert not judge_promotion(Metrics(**GOOD), champion=None, barred="rolled back from").promote


def test_the_floors_hold_beside_the_champion() -> None:
    """Better than a poor champion is not good enough."""
    poor = Metrics(**{**GOOD, "auc": 0.6})
    better = PairedComparison(**BETTER)
    promotion = judge_promotion(poor, champion=CHAMPION, comparison=better)
    assert reasons_held(promotion) == ["HELD: auc 0.6000, at least 0.9 needed"]
