"""What is unlike the training films is told apart, by a number that means the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from films import draw

from training.package.familiarity import Described, Familiarity, fit
from worker.errors import DataError, ModelPackageError
from worker.imaging.preprocessing import Pixels, resize
from worker.model.familiarity import directions, from_bytes, layouts

SIDE = 64


def films(first: int, count: int) -> Pixels:
    """Draw chests at a network's size."""
    drawn = [draw(first + n, width=160, height=128, opacity=n % 3 / 2) for n in range(count)]
    return np.stack([resize(one, height=SIDE, width=SIDE) for one in drawn])


def features(pixels: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Stand for a network: brightness and contrast of 8 rows, which mirroring leaves."""
    rows = pixels.reshape(len(pixels), 8, SIDE // 8, SIDE).astype(np.float64)
    return np.concatenate([rows.mean(axis=(2, 3)), rows.std(axis=(2, 3))], axis=1)


def seen(pixels: Pixels) -> Described:
    """Return films as they are compared."""
    return Described(layouts=layouts(pixels), directions=directions(features(pixels)))


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    """Fit on 200 drawn chests."""
    return fit(seen(films(0, 200)), seen(films(500, 60)))


def strangeness(fitted: Familiarity, pixels: Pixels) -> list[float]:
    """Return the strangeness of films, one by one."""
    read = from_bytes(fitted.familiar.to_bytes())
    return [read.strangeness(one, features(one[np.newaxis])[0]) for one in pixels]


def test_other_chests_are_familiar(fitted: Familiarity) -> None:
    """Films that were not fitted on stay within the inner limit, and mirrored ones too."""
    others = films(1000, 60)
    for pixels in (others, np.ascontiguousarray(others[:, :, ::-1])):
        found = np.array(strangeness(fitted, pixels))
        assert np.mean(found > fitted.limits.review) <= 0.1
        assert np.mean(found > fitted.limits.refuse) <= 0.02


def test_chests_the_wrong_way_round_are_not(fitted: Familiarity) -> None:
    """Upside down, on its side, inverted, noise and a collage: none is familiar."""
    right = films(2000, 30)
    noise = np.random.default_rng(1).integers(0, 256, right.shape).astype(np.uint8)
    half = right[:, ::2]
    wrong = {
        "upside down": right[:, ::-1],
        "on its left": np.rot90(right, 1, (1, 2)),
        "on its right": np.rot90(right, -1, (1, 2)),
        "inverted": 255 - right,
        "noise": noise,
        "two above each other": np.concatenate([half, half[::-1]], axis=1),
    }
    for name, pixels in wrong.items():
        found = np.array(strangeness(fitted, np.ascontiguousarray(pixels)))
        assert np.mean(found > fitted.limits.review) >= 0.95, name


def test_one_is_where_the_strangest_hundredth_begins(fitted: Familiarity) -> None:
    """The scale does not depend on the network: 1 is what 99 in 100 training films stay within."""
    found = np.array(strangeness(fitted, films(0, 200)))
    assert np.mean(found > 1) == pytest.approx(0.01, abs=0.006)
    assert fitted.limits.review >= 1
    assert fitted.limits.refuse == pytest.approx(1.3 * fitted.limits.review)


def test_the_file_is_the_same_for_the_same_films(fitted: Familiarity) -> None:
    """Fitted again on the same films, the same bytes: a package can be made again."""
    again = fit(seen(films(0, 200)), seen(films(500, 60)))
    assert again.familiar.to_bytes() == fitted.familiar.to_bytes()
    assert again.limits == fitted.limits


def test_an_even_picture_and_silent_features_give_a_number(fitted: Familiarity) -> None:
    """Nothing to divide by is no NaN; features that are no numbers are."""
    even = np.full((SIDE, SIDE), 90, dtype=np.uint8)
    assert np.isfinite(fitted.familiar.strangeness(even, np.zeros(16)))
    assert np.isnan(fitted.familiar.strangeness(even, np.full(16, np.nan)))


def test_a_size_that_does_not_divide_is_read_all_the_same() -> None:
    """Every pixel counts once, whatever the sides."""
    odd = np.stack([resize(draw(3), height=101, width=75)])
    even = np.stack([resize(draw(3), height=96, width=80)])
    assert layouts(odd).shape == (1, 64)
    assert np.corrcoef(layouts(odd)[0], layouts(even)[0])[0, 1] > 0.95


@pytest.mark.parametrize("spoil", ["cut", "noise", "empty"])
def test_a_broken_file_is_refused(fitted: Familiarity, spoil: str) -> None:
    """A file that cannot be read is a package that must not serve, never a crash."""
    whole = fitted.familiar.to_bytes()
    data = {"cut": whole[: len(whole) // 2], "noise": bytes(range(256)), "empty": b""}[spoil]
    with pytest.raises(ModelPackageError, match=r"familiar\.npz"):
        from_bytes(data)


def test_too_few_films_are_said() -> None:
    """A spread is not made up from a handful of films."""
    with pytest.raises(DataError, match="too few"):
        fit(seen(films(0, 5)), seen(films(10, 5)))
