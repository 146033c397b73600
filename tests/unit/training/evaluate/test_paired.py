"""Two models on the same films, each number against another way of computing it."""

from __future__ import annotations

import itertools
import json
import math
import time

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score

from training.evaluate.metrics import (
    Measured,
    OperatingPoint,
    Scores,
    Truth,
    auc,
    calibration_error,
)
from training.evaluate.paired import Reading, auc_difference, compare, mcnemar, weighted_auc
from training.evaluate.shifts import AREAS
from worker.model.evaluation import Decisions, Differences, Estimate

POINT = OperatingPoint(temperature=1.2, threshold=0.4, review_band=(0.3, 0.6))


def made_up(
    seed: int = 0, *, negative: int = 90, positive: int = 140, better: float = 0.0
) -> tuple[Truth, Scores, Scores]:
    """Draw labels and the logits of two models that find the same films hard."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([False, True], [negative, positive])
    shared = rng.normal(np.where(truth, 1.0, -1.0), 0.9)
    own = rng.normal(0, 0.5, (2, len(truth)))
    return truth, shared + own[0], shared + own[1] + np.where(truth, better, -better)


def singles(truth: Truth) -> list[str]:
    """Return a patient for each film."""
    return [f"patient-{number}" for number in range(len(truth))]


def readings(champion: Scores, challenger: Scores) -> tuple[Reading, Reading]:
    """Return both models' readings at one operating point."""
    return Reading.of(champion, POINT), Reading.of(challenger, POINT)


def known(estimate: Estimate) -> Measured:
    """Return an estimate of which nothing is missing."""
    assert estimate.value is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return Measured(value=estimate.value, low=estimate.low, high=estimate.high)


def brier(truth: Truth, probability: Scores) -> float:
    """Return the mean of both classes' own Brier scores."""
    each = [brier_score_loss(truth[side], probability[side]) for side in (truth, ~truth)]
    return float(np.mean(each))


def test_the_difference_is_that_of_scikit_learns_areas() -> None:
    """Its value is AUC less AUC; turned round, it and its interval change sign."""
    truth, champion, challenger = made_up(better=0.2)
    found = auc_difference(truth, champion, challenger)
    expected = roc_auc_score(truth, challenger) - roc_auc_score(truth, champion)
    assert found.value == pytest.approx(expected, abs=1e-12)
    back = auc_difference(truth, challenger, champion)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-found.value, -found.high, -found.low)
    )


def test_paired_delong_is_that_of_its_paper() -> None:
    """The variance is S(1,1) + S(2,2) - 2 S(1,2), from the full tables of pairs, ties and all."""
    truth, *both = made_up(negative=17, positive=29)
    both = [np.round(scores, 1) for scores in both]
    tables = []
    for scores in both:
        p, n = scores[truth][:, None], scores[~truth][None, :]
        tables.append((p > n) + 0.5 * (p == n))
    s10 = np.cov([table.mean(axis=1) for table in tables])
    s01 = np.cov([table.mean(axis=0) for table in tables])
    s = s10 / 29 + s01 / 17
    expected = math.sqrt(s[0, 0] + s[1, 1] - 2 * s[0, 1])
    found = auc_difference(truth, *both)
    assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(expected, rel=1e-6)


def test_paired_delong_covers_what_it_says() -> None:
    """Over many test sets its interval holds the true difference about 95 times in 100."""
    truth = np.repeat([False, True], [60, 80])
    covered = []
    for seed in range(600):
        rng = np.random.default_rng(seed)
        shared = rng.normal(np.where(truth, 0.8, -0.8), 1.0)
        champion, challenger = (shared + rng.normal(0, 0.6, 140) for _ in range(2))
        found = auc_difference(truth, champion, challenger)
        covered.append(found.low <= 0 <= found.high)
    assert 0.925 <= np.mean(covered) <= 0.975


def test_pairing_tells_more_than_two_intervals() -> None:
    """Models that find the same films hard are told apart by far fewer films."""
    truth, champion, challenger = made_up()
    paired = auc_difference(truth, champion, challenger)
    apart = [auc(truth, scores) for scores in (champion, challenger)]
    unpaired = math.hypot(*(one.high - one.value for one in apart))
    assert paired.high - paired.value < 0.8 * unpaired


def without_shifts(differences: Differences) -> dict[str, Estimate]:
    """Return the differences by name, but for those that need films changed on purpose."""
    return {name: one for name, one in dict(differences).items() if name not in AREAS}


def test_every_difference_is_the_difference_of_the_models_numbers() -> None:
    """Sensitivity, specificity, Brier, calibration error: of each model apart, then subtracted."""
    truth, *logits = made_up(better=0.3)
    both = readings(logits[0], logits[1])
    found = compare(truth, singles(truth), *both, draws=10)
    numbers = [
        {
            "sensitivity": one.called[truth].mean(),
            "specificity": (~one.called[~truth]).mean(),
            "brier": brier(truth, one.probability),
            "calibration_error": calibration_error(truth, one.probability),
            "undecided": one.undecided.mean(),
            "auc": roc_auc_score(truth, one.probability),
            "auc_by_patient": roc_auc_score(truth, one.probability),
        }
        for one in both
    ]
    differences = without_shifts(found.differences)
    assert differences.keys() == numbers[0].keys()
    for name, difference in differences.items():
        assert difference.value == pytest.approx(numbers[1][name] - numbers[0][name], abs=1e-12)


def test_the_bootstrap_agrees_with_drawing_patients_one_by_one() -> None:
    """A plain loop that draws patients, takes all their films and measures anew says the same."""
    truth, *logits = made_up(3, negative=40, positive=60, better=0.2)
    both = readings(np.round(logits[0], 1), np.round(logits[1], 1))  # so that there are ties
    patients = [f"{label}-{number // 3}" for number, label in enumerate(truth)]
    found = compare(truth, patients, *both, draws=4000)
    rng = np.random.default_rng(1)
    films = {name: np.flatnonzero(np.asarray(patients) == name) for name in sorted(set(patients))}
    kinds = [[n for n in films if truth[films[n][0]] == kind] for kind in (False, True)]
    drawn: dict[str, list[float]] = {
        name: [] for name in [*without_shifts(found.differences), "lost"]
    }
    for _ in range(1000):
        picks = [str(name) for kind in kinds for name in rng.choice(kind, len(kind))]
        rows = np.concatenate([films[name] for name in picks])
        t = truth[rows]
        one, two = (
            Reading(
                probability=b.probability[rows],
                called=b.called[rows],
                undecided=b.undecided[rows],
            )
            for b in both
        )
        drawn["sensitivity"].append(two.called[t].mean() - one.called[t].mean())
        drawn["specificity"].append(one.called[~t].mean() - two.called[~t].mean())
        drawn["brier"].append(brier(t, two.probability) - brier(t, one.probability))
        drawn["calibration_error"].append(
            calibration_error(t, two.probability) - calibration_error(t, one.probability)
        )
        drawn["undecided"].append(two.undecided.mean() - one.undecided.mean())
        areas = [roc_auc_score(t, model.probability) for model in (one, two)]
        drawn["auc_by_patient"].append(areas[1] - areas[0])
        right = [model.called == t for model in (one, two)]
        drawn["lost"].append((right[0] & ~right[1]).sum() / right[0].sum())
    del drawn["auc"]
    for name, values in drawn.items():
        interval = known(found.lost if name == "lost" else getattr(found.differences, name))
        width = interval.high - interval.low
        low, high = np.quantile(values, [0.025, 0.975])
        assert interval.low == pytest.approx(low, abs=0.1 * width), name
        assert interval.high == pytest.approx(high, abs=0.1 * width), name


def test_weighed_areas_are_those_of_scikit_learn() -> None:
    """Draw by draw, a film drawn twice counts twice; ties count half."""
    truth, scores, _ = made_up(negative=30, positive=40)
    scores = np.round(scores)
    weights = np.random.default_rng(4).integers(0, 4, (20, 70)).astype(float)
    expected = [roc_auc_score(truth, scores, sample_weight=row) for row in weights]
    assert weighted_auc(truth, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_films_of_one_patient_are_no_more_evidence_than_the_patient() -> None:
    """Each film four times under its patient's name gives the interval of each film once."""
    truth, *logits = made_up(5)
    once = compare(truth, singles(truth), *readings(logits[0], logits[1]))
    often = compare(
        np.repeat(truth, 4),
        [name for name in singles(truth) for _ in range(4)],
        *readings(np.repeat(logits[0], 4), np.repeat(logits[1], 4)),
    )
    for name in ("auc_by_patient", "sensitivity", "brier"):
        one, four = (getattr(each.differences, name) for each in (once, often))
        assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=1e-9)
    assert often.patients == once.patients == len(truth)


def test_a_patient_with_films_of_both_classes_is_drawn_whole() -> None:
    """Where every patient has one of each, no draw changes how many of each there are."""
    truth = np.tile([False, True], 30)
    rng = np.random.default_rng(2)
    both = readings(rng.normal(0, 2, 60), rng.normal(0, 2, 60))
    found = compare(truth, [f"patient-{n // 2}" for n in range(60)], *both)
    assert found.patients == 30
    known(found.differences.auc_by_patient)


def test_films_lost_and_gained_are_counted() -> None:
    """By hand: one film lost of the four the champion has right, two gained."""
    truth = np.array([False, False, False, True, True, True, True])
    champion = np.array([-9.0, -9.0, 9.0, 9.0, 9.0, -9.0, -9.0])
    challenger = np.array([-9.0, 9.0, -9.0, 9.0, 9.0, 9.0, -9.0])
    found = compare(truth, singles(truth), *readings(champion, challenger))
    assert found.decisions == Decisions(both_right=3, lost=1, gained=2, both_wrong=1)
    assert found.lost.value == 1 / 4
    assert found.mcnemar_p == mcnemar(1, 2)


def test_a_model_against_itself_differs_in_nothing() -> None:
    """Exactly nothing: a difference of zero must not pass for an improvement by rounding."""
    truth, logits, _ = made_up()
    one, two = readings(logits, logits)
    found = compare(truth, singles(truth), one, two)
    for difference in [*without_shifts(found.differences).values(), found.lost]:
        assert difference == Estimate(value=0.0, low=0.0, high=0.0)


def test_equal_areas_differ_in_nothing() -> None:
    """Of other films ordered rightly, but as many: 0 too, and no hair above by rounding."""
    generator = np.random.default_rng(0)
    truth, ties = np.arange(150) < 90, 0
    for _ in range(400):
        films = generator.normal(0, 1, 150) + np.where(truth, 4.5, 0)
        one, two = (films + generator.normal(0, 0.4, 150) for _ in range(2))
        higher = [np.greater.outer(scores[truth], scores[~truth]).sum() for scores in (one, two)]
        found = auc_difference(truth, one, two)
        assert np.sign(found.value) == np.sign(higher[1] - higher[0])
        ties += higher[0] == higher[1]
    assert ties > 20


def test_mcnemar_is_the_sum_over_all_ways_it_could_have_gone() -> None:
    """By enumeration of every sequence of lost and gained films."""
    for lost, gained in itertools.product(range(6), repeat=2):
        films = lost + gained
        ways = [sum(way) for way in itertools.product((0, 1), repeat=films)]
        as_far = [abs(way - films / 2) >= abs(lost - films / 2) for way in ways]
        assert mcnemar(lost, gained) == pytest.approx(np.mean(as_far))
    assert mcnemar(3000, 3000) == 1.0


def test_what_cannot_be_computed_is_none() -> None:
    """A champion that has nothing right has nothing to lose, and the record can be written."""
    truth, _, challenger = made_up()
    wrong = Reading(probability=np.where(truth, 0.0, 1.0), called=~truth, undecided=truth)
    found = compare(truth, singles(truth), wrong, Reading.of(challenger, POINT), draws=50)
    assert found.lost == Estimate()
    json.dumps(found.model_dump(), allow_nan=False)


def test_the_same_films_give_the_same_intervals() -> None:
    """The bootstrap draws by its seed, in one piece or in several."""
    truth, *logits = made_up()
    both = readings(logits[0], logits[1])
    assert compare(truth, singles(truth), *both) == compare(truth, singles(truth), *both)


def test_two_thousand_draws_of_six_hundred_films_take_a_couple_of_seconds() -> None:
    """A night is not held up by its judge."""
    truth, *logits = made_up(negative=240, positive=360)
    began = time.process_time()
    compare(truth, singles(truth), *readings(logits[0], logits[1]), draws=2000)
    assert time.process_time() - began < 4
