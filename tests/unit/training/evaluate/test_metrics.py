"""The numbers we say of a model, each against another way of computing it."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest

from training.evaluate.metrics import (
    OperatingPoint,
    Scores,
    Truth,
    auc,
    calibration_error,
    evaluate,
)
from training.evaluate.operating_point import (
    Aims,
    affordable,
    choose_operating_point,
    fit_calibration,
    promised_coverage,
)
from worker.errors import DataError
from worker.model.decision import Score, calibrate, judge
from worker.model.manifest import GOLDEN, SERVED, FileFacts, Manifest

POINT = OperatingPoint(temperature=1.5, threshold=0.4, review_band=(0.3, 0.6))


def made_up(
    seed: int = 0, *, negative: int = 150, positive: int = 250, apart: float = 2.0
) -> tuple[Truth, Scores]:
    """Draw labels and logits of a model that is good, and not perfect."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([False, True], [negative, positive])
    return truth, rng.normal(np.where(truth, apart / 2, -apart / 2), 1.0)


def test_auc_is_the_share_of_pairs_ordered_rightly() -> None:
    """By its definition: a random PNEUMONIA film scores above a random NORMAL one; ties half."""
    truth, scores = made_up(negative=23, positive=31)
    scores = np.round(scores, 1)  # so that there are ties
    pairs = list(itertools.product(scores[truth], scores[~truth]))
    expected = sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)
    assert auc(truth, scores).value == pytest.approx(expected, abs=1e-12)


def test_delong_interval_agrees_with_the_bootstrap() -> None:
    """Its half-width is that of a stratified bootstrap, within the bootstrap's own noise."""
    truth, scores = made_up(apart=1.5)
    rng = np.random.default_rng(1)
    negative, positive = np.flatnonzero(~truth), np.flatnonzero(truth)
    resampled = [
        auc(
            truth,
            scores[np.append(rng.choice(negative, 150), rng.choice(positive, 250))],
        ).value
        for _ in range(2000)
    ]
    measured = auc(truth, scores)
    assert measured.value - measured.low == pytest.approx(1.96 * np.std(resampled), rel=0.08)
    assert measured.high - measured.value == pytest.approx(measured.value - measured.low)


def test_delong_variance_is_that_of_its_paper() -> None:
    """The variance is DeLong's S10/m + S01/n, computed here from the full table of pairs."""
    truth, scores = made_up(negative=17, positive=29)
    psi = (scores[truth][:, None] > scores[~truth][None, :]).astype(float)
    variance = psi.mean(axis=1).var(ddof=1) / 29 + psi.mean(axis=0).var(ddof=1) / 17
    measured = auc(truth, scores)
    assert (measured.value - measured.low) / 1.959964 == pytest.approx(
        math.sqrt(variance), rel=1e-6
    )


def test_auc_is_blind_to_scale() -> None:
    """Calibration moves probabilities, never the AUC or its interval."""
    truth, logits = made_up()
    assert auc(truth, logits) == auc(truth, calibrate(logits, 2.5))


def test_calibration_error_is_zero_only_for_honest_probabilities() -> None:
    """Frequencies as announced give 0; announcing 0.9 where half are ill is off by 0.4."""
    truth = np.tile([True, False], 50)
    assert calibration_error(truth, np.full(100, 0.5)) == pytest.approx(0)
    assert calibration_error(truth, np.full(100, 0.9)) == pytest.approx(0.4)
    assert calibration_error(truth, truth.astype(float)) == pytest.approx(0)


def test_calibration_error_weighs_bins_by_films() -> None:
    """It agrees with a plain loop over the bins, probabilities of exactly 1 included.

    Each film counts for its share of its class.
    """
    truth, logits = made_up()
    probability = np.append(calibrate(logits, 1.0), [1.0, 1.0])
    truth = np.append(truth, [True, False])
    weight = np.where(truth, 1 / truth.sum(), 1 / (~truth).sum()) / 2
    total = 0.0
    for low in np.arange(10) / 10:
        inside = (probability >= low) & ((probability < low + 0.1) | (low == 0.9))
        if inside.any():
            said, seen = (
                np.average(what[inside], weights=weight[inside]) for what in (probability, truth)
            )
            total += weight[inside].sum() * abs(said - seen)
    assert calibration_error(truth, probability) == pytest.approx(total)


@pytest.mark.parametrize("prevalence", [0.05, 0.5, 0.8])
def test_how_many_are_ill_is_no_calibration_error(prevalence: float) -> None:
    """A model calibrated as documented is not held for where it is measured."""
    rng = np.random.default_rng(3)
    truth = rng.uniform(size=40_000) < prevalence
    honest = rng.normal(np.where(truth, 1.0, -1.0), np.sqrt(2))  # their own log-odds
    point = OperatingPoint(temperature=1.0, threshold=0.5, review_band=(0.5, 0.5))
    errors = [evaluate(truth, k * honest, point).calibration_error or 0.0 for k in (1, 2)]
    assert errors[0] < 0.02
    assert errors[1] > 0.05


@pytest.mark.parametrize("prevalence", [0.2, 0.5, 0.8])
def test_calibration_recovers_shift_and_temperature(prevalence: float) -> None:
    """Distorted logits are put right, whatever share of the films shows pneumonia."""
    rng = np.random.default_rng(3)
    count = 40_000
    truth = rng.uniform(size=count) < prevalence
    # Two normal distributions one apart: the true log-odds at equal frequency are the score.
    honest = rng.normal(np.where(truth, 0.5, -0.5), 1.0)
    found = fit_calibration(truth, 3.0 * honest - 2.0)
    assert found.temperature == pytest.approx(3.0, rel=0.05)
    assert found.shift == pytest.approx(2.0, abs=0.1)


def test_calibration_of_a_perfect_model_stays_finite() -> None:
    """Classes that do not overlap give a temperature that a manifest accepts."""
    truth, logits = made_up(apart=30.0)
    found = fit_calibration(truth, logits)
    assert 0 < found.temperature < math.inf
    assert math.isfinite(found.shift)


@pytest.mark.parametrize("aim", [0.8, 0.9, 0.97, 1.0])
def test_threshold_reaches_the_sensitivity_and_no_more(aim: float) -> None:
    """At the threshold the aim is met; one film higher it would be missed."""
    truth, logits = made_up()
    point = choose_operating_point(
        truth, logits, temperature=2.0, aims=Aims(sensitivity=aim, coverage=1.0)
    )
    probability = calibrate(logits, 2.0)
    called = probability[truth] >= point.threshold
    assert called.mean() >= aim
    assert (np.sort(probability[truth])[::-1][: called.sum() - 1]).size / called.size < aim


def test_no_film_lies_on_the_threshold() -> None:
    """A last-digit difference between two machines must not turn a calibration film over."""
    truth, logits = made_up()
    point = choose_operating_point(truth, logits, temperature=2.0)
    assert np.abs(calibrate(logits, 2.0) - point.threshold).min() > 1e-6


@pytest.mark.parametrize("count", [30, 250])
def test_review_band_keeps_its_promise_on_films_it_has_not_seen(count: int) -> None:
    """On average over many calibration sides, each class is called the other as seldom as said.

    And hardly more seldom: the band does not keep its word by taking everything in.
    """
    promised = promised_coverage(count, Aims().coverage)
    missed, accused = [], []
    for seed in range(300):
        truth, logits = made_up(negative=count, positive=count, seed=seed)
        point = choose_operating_point(truth, logits, temperature=1.0)
        low, high = point.review_band
        fresh, scores = made_up(negative=2000, positive=2000, seed=1000 + seed)
        probability = calibrate(scores, 1.0)
        missed.append((probability[fresh] < low).mean())
        accused.append((probability[~fresh] >= high).mean())
    for wrong in (missed, accused):
        chance = 3 * np.std(wrong) / math.sqrt(len(wrong))
        assert np.mean(wrong) == pytest.approx(1 - promised, abs=chance)


def test_few_films_promise_less() -> None:
    """Ninety-nine of a hundred cannot be promised by thirty films."""
    assert promised_coverage(30, 0.99) == pytest.approx(30 / 31)
    assert promised_coverage(1000, 0.99) >= 0.99


def test_review_band_encloses_the_threshold_of_a_very_good_model() -> None:
    """Where the ends would cross, the band ends at the threshold, as a manifest demands."""
    truth, logits = made_up(apart=12.0)
    point = choose_operating_point(truth, logits, temperature=1.0)
    assert point.review_band[0] <= point.threshold <= point.review_band[1]


def three_ways(apart: float) -> tuple[Truth, Scores]:
    """Return films as they are, far apart, and then changed twice, as far apart as given."""
    ways = [made_up(apart=one, seed=seed) for seed, one in enumerate((6.0, apart, apart))]
    return np.concatenate([truth for truth, _ in ways]), np.concatenate([one for _, one in ways])


def review_share(truth: Truth, logits: Scores, aims: Aims) -> float:
    """Return the share of films as they are that the band takes, both classes weighing the same."""
    whole = slice(0, len(truth) // 3)
    low, high = choose_operating_point(truth, logits, temperature=1.0, aims=aims).review_band
    review = (calibrate(logits[whole], 1.0) >= low) & (calibrate(logits[whole], 1.0) < high)
    return float(np.mean([review[truth[whole] == label].mean() for label in (True, False)]))


def test_a_band_that_takes_too_many_films_as_they_are_covers_less() -> None:
    """Changed films that cannot be told apart widen it; the share that a site can bear is kept."""
    truth, logits = three_ways(apart=1.0)
    assert review_share(truth, logits, Aims()) > Aims().review_share
    aims = affordable(truth, logits, temperature=1.0, as_they_are=len(truth) // 3)
    assert aims.coverage < Aims().coverage
    assert review_share(truth, logits, aims) <= aims.review_share


def test_a_band_that_can_be_borne_stays() -> None:
    """Nothing is given up where there is no need."""
    truth, logits = three_ways(apart=6.0)
    assert affordable(truth, logits, temperature=1.0, as_they_are=len(truth) // 3) == Aims()


def test_evaluation_counts_as_the_worker_decides() -> None:
    """Sensitivity, specificity and the share reviewed are those of `judge`, film by film."""
    truth, logits = made_up(apart=4.0)
    manifest = Manifest(
        format=1,
        version="drawn",
        created_at="",
        classes=("NORMAL", "PNEUMONIA"),
        height=1,
        width=1,
        preprocessing_version="",
        temperature=POINT.temperature,
        threshold=POINT.threshold,
        review_band=POINT.review_band,
        files=dict.fromkeys((SERVED, GOLDEN), FileFacts(sha256="0" * 64, size_bytes=1)),
        training={},
        libraries={},
    )
    verdicts = [judge(Score(logit=float(logit)), manifest) for logit in logits]
    called = np.array([verdict.label == "PNEUMONIA" for verdict in verdicts])
    review = np.array([verdict.decision == "REVIEW" for verdict in verdicts])
    numbers = evaluate(truth, logits, POINT)
    assert numbers.sensitivity == pytest.approx(called[truth].mean())
    assert numbers.specificity == pytest.approx((~called[~truth]).mean())
    assert numbers.ppv == pytest.approx(truth[called].mean())
    assert numbers.npv == pytest.approx((~truth[~called]).mean())
    assert numbers.review_share == pytest.approx(review.mean())
    assert numbers.sensitivity_outside_review == pytest.approx(called[truth & ~review].mean())
    errors = np.array([(v.probability - t) ** 2 for v, t in zip(verdicts, truth, strict=True)])
    assert numbers.brier == pytest.approx((errors[truth].mean() + errors[~truth].mean()) / 2)
    assert sum(numbers.confusion.model_dump().values()) == len(truth)


def test_unfamiliar_films_are_review_too_and_refused_ones_are_not() -> None:
    """As the worker has it: the share marked REVIEW has both kinds, and a refused film neither."""
    truth = np.array([True, True, True, False, False, False, False, False])
    logits = np.array([9.0, -9.0, 9.0, -9.0, 9.0, -9.0, 0.0, -9.0])
    point = OperatingPoint(temperature=1.0, threshold=0.5, review_band=(0.4, 0.6))
    unfamiliar = np.array([False, True, False, False, True, True, False, False])
    refused = np.array([False, False, False, False, False, True, False, False])
    numbers = evaluate(truth, logits, point, unfamiliar=unfamiliar, refused=refused)
    assert numbers.review_share == 3 / 8
    assert numbers.intervals["review_share"] is not None
    assert numbers.sensitivity_outside_review == 1.0
    assert numbers.specificity_outside_review == 1.0
    assert numbers.sensitivity == pytest.approx(2 / 3), "of the label, which all have"
    plain = evaluate(truth, logits, point)
    assert (plain.review_share, plain.specificity_outside_review) == (1 / 8, 3 / 4)


def test_what_cannot_be_computed_is_none() -> None:
    """A model that calls nothing PNEUMONIA has no PPV, and the record can still be written."""
    truth, logits = made_up()
    never = OperatingPoint(temperature=1.0, threshold=1.0, review_band=(1.0, 1.0))
    numbers = evaluate(truth, logits, never)
    assert numbers.ppv is None
    assert numbers.sensitivity == 0
    json.dumps(numbers.model_dump(), allow_nan=False)


@pytest.mark.parametrize("logit", [math.nan, math.inf])
def test_a_logit_that_is_not_finite_stops(logit: float) -> None:
    """Such a model is neither measured nor calibrated."""
    truth, logits = made_up()
    logits[7] = logit
    with pytest.raises(DataError, match="not finite"):
        evaluate(truth, logits, POINT)
    with pytest.raises(DataError, match="not finite"):
        fit_calibration(truth, logits)
    with pytest.raises(DataError, match="not finite"):
        choose_operating_point(truth, logits, temperature=1.0)


def test_one_class_alone_stops() -> None:
    """Nothing can be said of a model on films of one class."""
    with pytest.raises(DataError, match="both classes"):
        evaluate(np.ones(5, dtype=np.bool_), np.zeros(5), POINT)
