"""A model's numbers by series of names, by film size, and by place on the film."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.paired import Reading
from training.evaluate.subgroups import break_down
from worker.model.evaluation import Estimate

TRUTH = np.array([True, True, True, True, False, False])
CALLED = np.array([True, True, False, True, False, True])
READING = Reading(
    probability=np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.6]), called=CALLED, undecided=np.zeros(6, bool)
)
PATIENTS = ["bacteria-1", "bacteria-2", "virus-1", "virus-2", "IM-7", "film-ab"]


def test_each_series_has_the_numbers_its_classes_allow() -> None:
    """Bacterial and viral films have a sensitivity, normal ones a specificity, counts all."""
    groups = break_down(TRUTH, READING, patients=PATIENTS, sizes=[])
    series = groups.series
    assert series.keys() == {"bacteria", "virus", "IM", "of no known series"}
    assert series["bacteria"].films == {"NORMAL": 0, "PNEUMONIA": 2}
    assert value(series["bacteria"].sensitivity) == 1.0
    assert value(series["virus"].sensitivity) == 0.5
    assert series["virus"].auc is None
    assert series["virus"].specificity is None
    assert value(series["IM"].specificity) == 1.0
    assert value(series["of no known series"].specificity) == 0.0
    assert groups.size == {}


def value(estimate: Estimate | None) -> float | None:
    """Return the value of a number that was measured."""
    assert estimate is not None
    return estimate.value


def test_where_nobody_is_of_a_known_series_there_is_no_table() -> None:
    """One group of all films would say what the whole says."""
    groups = break_down(TRUTH, READING, patients=["patient-1"] * 6, sizes=[5] * 6)
    assert (groups.series, groups.size) == ({}, {})


def test_thirds_by_size_hold_every_film_once_the_smallest_first() -> None:
    """With an AUC where both classes are there."""
    sizes = [1_000_000, 2_000_000, 3_000_000, 4_000_000, 2_500_000, 900_000]
    groups = break_down(TRUTH, READING, patients=PATIENTS, sizes=sizes).size
    assert list(groups) == [
        "up to 1 megapixels",
        "over 1 to 2.5 megapixels",
        "over 2.5 megapixels",
    ]
    assert [sum(one.films.values()) for one in groups.values()] == [2, 2, 2]
    assert value(groups["up to 1 megapixels"].auc) == pytest.approx(1.0)
