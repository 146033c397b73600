"""A film can be framed and exposed as films of the other class are."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.reframing import Crop, cumulative_histogram, toned


@pytest.mark.parametrize(
    ("height", "width", "kept"),
    [(0.8, 1.0, (80, 60)), (1.0, 0.8, (100, 48)), (1.0, 1.0, (100, 60))],
)
def test_a_crop_keeps_the_middle_of_each_side(
    height: float, width: float, kept: tuple[int, int]
) -> None:
    """As much is cut from either end of a side."""
    down, across = np.mgrid[0:100, 0:60]
    for place in (down, across):
        cropped = Crop(height=height, width=width).of(place.astype(np.uint8))
        assert cropped.shape == kept
        assert int(cropped.min()) + int(cropped.max()) == place.max()


def test_a_toned_film_has_the_other_films_histogram_and_its_own_picture() -> None:
    """Grey levels are those of the other film; what was darker stays darker."""
    draw = np.random.default_rng(7)
    film = draw.integers(0, 256, (64, 64), dtype=np.uint8)
    other = (draw.beta(2, 5, (80, 50)) * 255).astype(np.uint8)
    result = toned(film, cumulative_histogram(other))
    assert np.abs(cumulative_histogram(result) - cumulative_histogram(other)).max() < 0.02
    order = np.argsort(film, axis=None, kind="stable")
    assert (np.diff(result.ravel()[order].astype(int)) >= 0).all()


def test_a_film_toned_with_its_own_histogram_stays_as_it_is() -> None:
    """Nothing is lost where there is nothing to change."""
    film = np.random.default_rng(3).integers(0, 256, (40, 30), dtype=np.uint8)
    assert (toned(film, cumulative_histogram(film)) == film).all()
