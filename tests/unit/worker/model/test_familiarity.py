"""What is unlike the training films is told apart, by a number that means the same everywhere."""

from __future__ import annotations

from dataclasses import replace

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


def grown_up(first: int, count: int) -> Pixels:
    """Draw chests of other patients: the same, but with less of what is below the lungs."""
    drawn = [draw(first + n, width=160, height=150, opacity=n % 3 / 2) for n in range(count)]
    return np.stack([resize(one[:140], height=SIDE, width=SIDE) for one in drawn])


def others_seen(count: int) -> Described:
    """Return chests of other patients as they are compared."""
    return seen(grown_up(5000, count))


@pytest.fixture(scope="module")
def warned() -> Familiarity:
    """Fit on 200 drawn chests, and on 60 of other patients."""
    return fit(seen(films(0, 200)), seen(films(500, 60)), others=others_seen(60))


def test_other_patients_are_left_to_a_person(fitted: Familiarity, warned: Familiarity) -> None:
    """They are REVIEW, more of them where their like were seen; never refused for it alone."""
    adults = grown_up(7000, 60)
    shares = [
        np.mean(np.array(strangeness(one, adults)) > one.limits.review) for one in (fitted, warned)
    ]
    assert shares[1] >= 0.9
    assert shares[1] > shares[0]
    assert warned.facts["others"]["films"] == 60
    assert warned.facts["others"]["beyond_review"] >= 0.9
    told = warned.familiar.others
    assert told is not None
    assert warned.limits.review < told.most < warned.limits.refuse


def test_those_that_it_is_for_stay_familiar(warned: Familiarity) -> None:
    """Of films that were not fitted on few are REVIEW, mirrored ones too."""
    mine = films(1000, 60)
    for pixels in (mine, np.ascontiguousarray(mine[:, :, ::-1])):
        assert np.mean(np.array(strangeness(warned, pixels)) > warned.limits.review) <= 0.1


def test_the_way_to_other_patients_is_handed_on(warned: Familiarity) -> None:
    """A night without their films tells them as the night that had them does."""
    told = warned.familiar.others
    assert told is not None
    after = fit(seen(films(0, 200)), seen(films(500, 60)), towards=told.direction)
    adults = grown_up(7000, 60)
    assert after.limits.review == pytest.approx(warned.limits.review)
    assert strangeness(after, adults) == pytest.approx(strangeness(warned, adults), rel=1e-4)


def test_a_package_from_before_keeps_its_own_limits(fitted: Familiarity) -> None:
    """A file without what tells other patients is read, and means what it meant."""
    before = replace(fitted.familiar, others=None)
    read = from_bytes(before.to_bytes())
    assert read.others is None
    film = films(3000, 1)[0]
    three = read.distances(layouts(film[np.newaxis]), seen(film[np.newaxis]).directions)
    expected = np.sqrt(np.mean((three / read.scales[:3]) ** 2)) / read.scales[3]
    found = read.strangeness(film, features(film[np.newaxis])[0])
    assert found == pytest.approx(expected)


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
