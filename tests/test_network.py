"""What the network does to a film before it looks at it."""

from __future__ import annotations

import numpy as np
import pytest
from films import draw

from training.network import FillFrame

SIDE = 64


def filled(*films: np.ndarray) -> np.ndarray:
    """Return films, (h, w) uint8, as the layer gives them."""
    given = FillFrame()(np.stack(films)[..., np.newaxis])
    return np.asarray(given)[..., 0]


def film(number: int = 1) -> np.ndarray:
    """Draw a film whose rows and columns all have more than one grey level."""
    drawn = np.array(draw(number, width=SIDE, height=SIDE))
    return np.where(np.indices(drawn.shape).sum(axis=0) % 2, drawn // 2, 255 - drawn // 2).astype(
        np.uint8
    )


def framed(
    inside: np.ndarray, level: int, *, top: int, bottom: int, left: int, right: int
) -> np.ndarray:
    """Lay a frame over a film, as uneven as JPEG leaves it."""
    noise = np.random.default_rng(3).integers(-2, 3, inside.shape)
    frame = np.clip(level + noise, 0, 255).astype(np.uint8)
    rows, columns = slice(top, SIDE - bottom), slice(left, SIDE - right)
    frame[rows, columns] = inside[rows, columns]
    return frame


def test_a_film_without_a_frame_stays_as_it_is() -> None:
    """To the bit, so that a network that learnt without the layer gives the same with it."""
    one, other = film(1), film(2)
    assert np.array_equal(filled(one, other), np.stack([one, other]))


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(
    ("top", "bottom", "left", "right"),
    [(12, 12, 12, 12), (0, 9, 0, 0), (0, 0, 20, 0), (3, 0, 0, 5)],
)
def test_a_frame_is_filled_from_the_film(
    level: int, top: int, bottom: int, left: int, right: int
) -> None:
    """Whichever sides it is on, and black, grey or white: nothing of it is left."""
    inside = film()
    (given,) = filled(framed(inside, level, top=top, bottom=bottom, left=left, right=right))
    # The first row behind a frame may be half of it, and goes as well.
    rows = np.clip(np.arange(SIDE), top + (top > 0), SIDE - 1 - bottom - (bottom > 0))
    columns = np.clip(np.arange(SIDE), left + (left > 0), SIDE - 1 - right - (right > 0))
    assert np.array_equal(given, inside[np.ix_(rows, columns)])


def test_each_film_by_its_own_frame() -> None:
    """One film's frame is none of its neighbour's in the batch."""
    plain, other = film(1), film(2)
    given = filled(plain, framed(other, 0, top=10, bottom=10, left=10, right=10))
    assert np.array_equal(given[0], plain)
    assert not np.array_equal(given[1], other)


@pytest.mark.parametrize("level", [0, 90])
def test_nothing_but_frame(level: int) -> None:
    """An evenly grey film has no inside to be filled from."""
    even = np.full((SIDE, SIDE), level, np.uint8)
    assert np.array_equal(filled(even)[0], even)
