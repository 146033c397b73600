"""A model's numbers by series of names, by film size, and by place on the film."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.paired import Reading
from training.evaluate.subgroups import break_down

TRUTH = np.array([True, True, True, True, False, False])
CALLED = np.array([True, True, False, True, False, True])
READING = Reading(
    probability=np.array([0.9, 0.8, 0.2, 0.7, 0.1, 0.6]), called=CALLED, undecided=np.zeros(6, bool)
)
PATIENTS = ["bacteria-1", "bacteria-2", "virus-1", "virus-2", "IM-7", "film-ab"]


def test_each_series_has_the_numbers_its_classes_allow() -> None:
    """Bacterial and viral films have a sensitivity, normal ones a specificity, counts all."""
    found = break_down(TRUTH, READING, patients=PATIENTS, sizes=[], outside=[])
    series = found["groups"]["series"]
    assert series.keys() == {"bacteria", "virus", "IM", "of no known series"}
    assert series["bacteria"]["films"] == {"NORMAL": 0, "PNEUMONIA": 2}
    assert series["bacteria"]["sensitivity"]["value"] == 1.0
    assert series["virus"]["sensitivity"]["value"] == 0.5
    assert series["virus"]["auc"] is None
    assert series["virus"]["specificity"] is None
    assert series["IM"]["specificity"]["value"] == 1.0
    assert series["of no known series"]["specificity"]["value"] == 0.0
    assert found["groups"]["size"] == {}
    assert found["evidence_outside"] is None


def test_where_nobody_is_of_a_known_series_there_is_no_table() -> None:
    """One group of all films would say what the whole says."""
    found = break_down(TRUTH, READING, patients=["patient-1"] * 6, sizes=[5] * 6, outside=[0.2])
    assert found["groups"] == {"series": {}, "size": {}}
    assert found["evidence_outside"]["mean"] == 0.2


def test_thirds_by_size_hold_every_film_once_the_smallest_first() -> None:
    """With an AUC where both classes are there."""
    sizes = [1_000_000, 2_000_000, 3_000_000, 4_000_000, 2_500_000, 900_000]
    found = break_down(TRUTH, READING, patients=PATIENTS, sizes=sizes, outside=[])
    groups = found["groups"]["size"]
    assert list(groups) == [
        "up to 1 megapixels",
        "over 1 to 2.5 megapixels",
        "over 2.5 megapixels",
    ]
    counts = [one["films"]["NORMAL"] + one["films"]["PNEUMONIA"] for one in groups.values()]
    assert counts == [2, 2, 2]
    assert groups["up to 1 megapixels"]["auc"]["value"] == pytest.approx(1.0)
