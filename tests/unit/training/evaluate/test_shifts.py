"""Numbers under shift: of films as they are, swapped, and zoomed in either class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packages import change_manifest, copy_package
from sklearn.metrics import roc_auc_score

from training.data.splits import LabelledScan, Side
from training.evaluate.metrics import Scores, Truth
from training.evaluate.reframed import Framing, Kind
from training.evaluate.scoring import UNTOUCHED, ScoredByKind
from training.evaluate.shifts import AREAS, UnderShift, estimate_areas, measure_shifts
from worker.model.decision import Score
from worker.model.evaluation import Estimate

FRAMING = Framing.fixed(normal_height=0.83, pneumonia_width=0.8)
FILMS = 60  # of each class


def scans(side: Side, each: int = FILMS) -> list[LabelledScan]:
    """Return films of both classes that lie nowhere, two of each patient."""
    return [
        LabelledScan(
            path=Path(f"{label}-{number}.jpeg"),
            name=f"{label}-{number:03}.jpeg",
            label=label,
            sha256=f"{side}-{label}-{number}",
            patient=f"{label}-{number // 2}",
            side=side,
        )
        for label in ("NORMAL", "PNEUMONIA")
        for number in range(each)
    ]


TRUTH: Truth = np.array([scan.label == "PNEUMONIA" for scan in scans(Side.TEST)])


def logits(seed: int, distance: float) -> Scores:
    """Return a model's logits, normal around plus or minus the distance."""
    noise = np.random.default_rng(seed).normal(size=len(TRUTH))
    return np.where(TRUTH, distance, -distance) + noise


class Scorer:
    """Scores that are made up, by package and kind."""

    def __init__(self, *models: dict[str, Sequence[float | str]] | str) -> None:
        """Take the logits and codes of each model, or why it cannot serve."""
        self.models = models

    def __call__(self, *_: Any) -> list[ScoredByKind]:
        """Return them as scores."""
        return [
            ScoredByKind(error=model)
            if isinstance(model, str)
            else ScoredByKind(
                scores={
                    name: [
                        one if isinstance(one, str) else Score(logit=float(one), strangeness=0.1)
                        for one in said
                    ]
                    for name, said in model.items()
                }
            )
            for model in self.models
        ]


def model(seed: int, distance: float = 1.5, **changes: Sequence[float | str]) -> dict[str, Any]:
    """Return a model's logits by kind: weaker under shift."""
    kinds = (UNTOUCHED, *Kind)
    weaker = {kind: distance - 0.2 * number for number, kind in enumerate(kinds)}
    return {str(kind): logits(seed + n, weaker[kind]) for n, kind in enumerate(kinds)} | changes


def measured(
    package: Path, *models: dict[str, Any] | str, framing: Framing = FRAMING
) -> tuple[list[UnderShift], dict[str, Estimate]]:
    """Measure models that were made up, at the operating point of the package."""
    return measure_shifts(
        [package] * len(models),
        scans(Side.TEST),
        scans(Side.TRAIN, 4),
        framing,
        draws=200,
        score=Scorer(*models),
    )


def expected(said: dict[str, Any]) -> dict[str, float]:
    """Return the areas as scikit-learn has them."""
    plain, zoomed = said[UNTOUCHED], said[Kind.ZOOMED]
    worse = min(
        roc_auc_score(TRUTH, np.where(turn == TRUTH, zoomed, plain)) for turn in (False, True)
    )
    swapped = roc_auc_score(TRUTH, said[Kind.SWAPPED])
    robust = (roc_auc_score(TRUTH, plain) + swapped + worse) / 3
    return {"swapped_auc": swapped, "zoomed_auc": worse, "robust_auc": robust}


def test_each_model_is_measured_and_their_differences(shipped: Path) -> None:
    """By scikit-learn on the same scores; the worse of the zoomed ones; intervals about them."""
    one, two = model(0, 1.7), model(10)
    found, differences = measured(shipped, one, two)
    for under, said in zip(found, (one, two), strict=True):
        for name, value in expected(said).items():
            area = under.areas[name]
            assert area.value == pytest.approx(value)
            assert (area.low or 1) < value < (area.high or 0)
        assert under.shifts.swapped is not None
        assert under.shifts.swapped.auc == pytest.approx(roc_auc_score(TRUTH, said[Kind.SWAPPED]))
        assert under.shifts.swapped.intervals["sensitivity"] is not None
        assert under.shifts.conflict is not None
        assert under.shifts.crops == {"NORMAL": (0.83, 1.0), "PNEUMONIA": (1.0, 0.8)}
        assert min(zoomed.auc or 1 for zoomed in under.shifts.zoomed.values()) == pytest.approx(
            expected(said)["zoomed_auc"]
        )
    for name in AREAS:
        assert differences[name].value == pytest.approx(expected(one)[name] - expected(two)[name])


def test_equal_models_differ_by_nothing_at_all(shipped: Path) -> None:
    """No hair above zero, by which the gate would promote; also where parts differ."""
    said = model(0)
    mirrored = said | {UNTOUCHED: said[Kind.SWAPPED], str(Kind.SWAPPED): said[UNTOUCHED]}
    _, differences = measured(shipped, said, {name: one + 1.0 for name, one in said.items()})
    assert all(one == Estimate(value=0.0, low=0.0, high=0.0) for one in differences.values())
    views = [
        [one[UNTOUCHED], one[Kind.SWAPPED], *[said[Kind.ZOOMED]] * 2] for one in (said, mirrored)
    ]
    patients = [scan.patient for scan in scans(Side.TEST)]
    robust = estimate_areas(TRUTH, patients, *views, draws=50)["robust_auc"]
    assert robust.value == 0.0


@pytest.mark.parametrize("kind", [UNTOUCHED, Kind.SWAPPED, Kind.ZOOMED])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_model_that_gives_no_number_has_no_area(shipped: Path, kind: str, value: float) -> None:
    """Nothing is taken from the films that are left: the gate holds what is missing."""
    broken = model(0)
    broken[str(kind)][3] = value
    found, differences = measured(shipped, broken, model(10))
    assert all(area == Estimate() for area in found[0].areas.values())
    assert all(area == Estimate() for area in differences.values())
    assert found[1].areas["robust_auc"].value is not None


def test_films_that_cannot_be_read_after_a_change_are_left_out_of_both(shipped: Path) -> None:
    """As where a film is too small to be cropped: counted, and no reason to have no number."""
    one, two = model(0), model(10)
    one[Kind.SWAPPED] = ["blank", *one[Kind.SWAPPED][1:]]
    found, differences = measured(shipped, one, two)
    assert found[0].shifts.swapped is not None
    assert found[0].shifts.swapped.unreadable == 1
    assert found[0].shifts.swapped.films == {"NORMAL": FILMS - 1, "PNEUMONIA": FILMS}
    rest = TRUTH[1:]
    difference = roc_auc_score(rest, one[Kind.SWAPPED][1:]) - roc_auc_score(
        rest, two[Kind.SWAPPED][1:]
    )
    assert differences["swapped_auc"].value == pytest.approx(difference)


def test_where_every_film_of_a_class_is_left_out_there_is_no_number(shipped: Path) -> None:
    """That change failed, so it is missing."""
    said = model(0)
    said[Kind.ZOOMED] = ["too_small"] * len(TRUTH)
    found, _ = measured(shipped, said)
    assert found[0].shifts.zoomed == {}
    assert found[0].areas["robust_auc"] == Estimate()
    assert found[0].shifts.swapped is not None


def test_framing_that_cannot_be_swapped_is_left_out_with_the_reason(shipped: Path) -> None:
    """And robust AUC is there."""
    found, _ = measured(shipped, model(0), framing=Framing.whole("sizes are not known"))
    shifts = found[0].shifts
    assert (shifts.conflict, shifts.crops) == (None, {})
    assert shifts.framing_left_out == "sizes are not known"
    assert found[0].areas["robust_auc"].value is not None


def test_a_champion_that_cannot_serve_leaves_the_difference_unknown(shipped: Path) -> None:
    """The challenger's own numbers are there."""
    found, differences = measured(shipped, model(0), "its weights are damaged")
    assert differences == {}
    assert found[1].error == "its weights are damaged"
    assert found[0].areas["robust_auc"].value is not None


def test_each_package_is_read_at_its_own_operating_point(shipped: Path, tmp_path: Path) -> None:
    """The same logits, another threshold: another specificity, the same AUC."""
    strict = copy_package(shipped, tmp_path, version="strict-0")
    change_manifest(strict, threshold=0.999, review_band=[0.999, 0.999])
    said = model(0)
    (one, two), _ = measure_shifts(
        [shipped, strict],
        scans(Side.TEST),
        scans(Side.TRAIN, 4),
        FRAMING,
        draws=10,
        score=Scorer(said, said),
    )
    assert one.shifts.swapped is not None
    assert two.shifts.swapped is not None
    assert one.shifts.swapped.auc == two.shifts.swapped.auc
    assert (one.shifts.swapped.specificity or 0) < (two.shifts.swapped.specificity or 0)
