"""What a network is shown in training, and what its calibration side says of it."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.reframing import cumulative_histogram
from training.fit.batches import Examples, OtherHistograms, Shuffled
from training.fit.calibration import CalibrationFilms
from worker.errors import DataError

SIDE = 24


def dark_and_bright(count: int = 40) -> Examples:
    """Return NORMAL films that are dark and PNEUMONIA films that are bright."""
    draw = np.random.default_rng(5)
    labels = np.arange(count) % 2
    low = np.where(labels == 1, 150, 10)[:, np.newaxis, np.newaxis]
    pixels = (draw.integers(0, 80, (count, SIDE, SIDE)) + low).astype(np.uint8)
    return Examples(pixels=pixels, rows=np.arange(count), labels=labels.astype(np.float32))


def brightness(films: np.ndarray, labels: np.ndarray, label: int) -> float:
    """Return the mean grey level of the films of a class."""
    return float(films[labels.ravel() == label].mean())


def test_a_film_is_exposed_at_least_half_as_the_other_class_is() -> None:
    """Its grey levels lie halfway or farther towards those of the other class."""
    films = dark_and_bright()
    chosen = np.arange(len(films))
    given = OtherHistograms(films).give(films.pixels, chosen, np.random.default_rng(1), share=1.0)
    before, labels = films.pixels, films.labels
    middle = before.mean()
    assert brightness(before, labels, 0) < middle < brightness(before, labels, 1)
    assert brightness(given, labels, 1) <= middle + 1
    assert brightness(given, labels, 0) >= middle - 1


def test_the_picture_stays_where_grey_levels_change() -> None:
    """What was darker than something else in a film is so afterwards."""
    films = dark_and_bright()
    given = OtherHistograms(films).give(
        films.pixels, np.arange(len(films)), np.random.default_rng(2), share=1.0
    )
    for before, after in zip(films.pixels, given, strict=True):
        order = np.argsort(before, axis=None, kind="stable")
        assert (np.diff(after.ravel()[order].astype(int)) >= 0).all()


def test_only_a_share_of_films_is_changed() -> None:
    """At a share of nought all films are as they were; in between, some are."""
    films = dark_and_bright(400)
    histograms, chosen = OtherHistograms(films), np.arange(len(films))

    def changed(share: float) -> float:
        given = histograms.give(films.pixels, chosen, np.random.default_rng(3), share=share)
        return float((given != films.pixels).any(axis=(1, 2)).mean())

    assert changed(0.0) == 0.0
    assert changed(0.7) == pytest.approx(0.7, abs=0.08)


def test_a_batch_follows_from_seed_epoch_and_position_alone() -> None:
    """So a killed run goes on with the same films and the same grey levels."""
    films = dark_and_bright()

    def batches(seed: int, epoch: int) -> Shuffled:
        return Shuffled(films, batch=8, seed=seed, mixed_share=0.5, toned_share=0.7, epoch=epoch)

    first, again = batches(4, 2), batches(4, 0)
    again.turn_to(2)
    for position in reversed(range(len(first))):
        for one, other in zip(first[position], again[position], strict=True):
            np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0][0], batches(5, 2)[0][0])


def test_toned_films_of_a_batch_keep_their_labels() -> None:
    """Grey levels of the other class do not make a film one of it."""
    films = dark_and_bright()
    plain = Shuffled(films, batch=40, seed=1, toned_share=0.0)
    toned = Shuffled(films, batch=40, seed=1, toned_share=1.0)
    (before, labels), (after, labels_after) = plain[0], toned[0]
    np.testing.assert_array_equal(labels, labels_after)
    for one, other, label in zip(before[..., 0], after[..., 0], labels.ravel(), strict=True):
        darker = cumulative_histogram(other).sum() > cumulative_histogram(one).sum()
        assert darker == (label == 1)


def three_ways(labels: np.ndarray) -> CalibrationFilms:
    """Return calibration films three ways; their pixels do not matter."""
    count = 3 * len(labels)
    return CalibrationFilms(
        examples=Examples(
            pixels=np.zeros((count, 2, 2), np.uint8),
            rows=np.arange(count),
            labels=np.tile(labels.astype(np.float32), 3),
        ),
        ways=3,
    )


def test_a_network_that_reads_the_frame_is_seen_on_swapped_films() -> None:
    """It is right on films as they are, wrong on swapped ones, and its robust AUC says so."""
    labels = np.arange(20) % 2
    right = np.where(labels == 1, 2.0, -2.0)
    films = three_ways(labels)
    lungs = films.numbers(np.concatenate([right, right, right]), label_smoothing=0.0)
    frame = films.numbers(np.concatenate([right, -right, right]), label_smoothing=0.0)
    assert lungs["val_robust"] == lungs["val_auc"] == 1.0
    assert frame["val_auc"] == frame["val_zoomed"] == 1.0
    assert frame["val_swapped"] == 0.0
    assert frame["val_robust"] == pytest.approx(2 / 3)
    assert frame["val_loss"] > lungs["val_loss"]


def test_of_two_ways_to_zoom_the_worse_counts() -> None:
    """A network that calls every cropped film PNEUMONIA fails where NORMAL films are cropped."""
    labels = np.arange(20) % 2
    right = np.where(labels == 1, 1.0, -1.0)
    cropped = np.full(20, 5.0)
    numbers = three_ways(labels).numbers(
        np.concatenate([right, right, cropped]), label_smoothing=0.0
    )
    assert numbers["val_zoomed"] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_logit_that_is_no_number_makes_no_number(bad: float) -> None:
    """So such an epoch is never the best."""
    labels = np.arange(20) % 2
    logits = np.where(np.tile(labels, 3) == 1, 1.0, -1.0)
    logits[7] = bad
    assert np.isnan(three_ways(labels).numbers(logits, label_smoothing=0.0)["val_robust"])


def test_calibration_films_of_one_class_are_an_error() -> None:
    """There is nothing to choose by."""
    with pytest.raises(DataError, match="both classes"):
        three_ways(np.ones(4))
