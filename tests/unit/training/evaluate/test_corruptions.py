"""What is done to films to see how a model stands it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from films import Grey, draw
from PIL import Image

from training.evaluate.corruptions import DISTURBANCES, disturb

FILM = draw(5, width=400, height=300, opacity=0.5)


def disturbed(name: str, film: Grey = FILM, seed: int = 1) -> Grey:
    """Return a film after a disturbance, decoded again."""
    return np.asarray(Image.open(io.BytesIO(disturb(name, film, seed))))


@pytest.mark.parametrize("name", DISTURBANCES)
def test_each_changes_the_film_and_leaves_a_film(name: str) -> None:
    """A grey picture of the same chest, other than it was; the film handed in stays."""
    before = FILM.copy()
    after = disturbed(name)
    assert (before == FILM).all()
    assert after.dtype == np.uint8
    assert after.ndim == 2
    assert after.std() > 20
    small = (
        np.asarray(Image.fromarray(one).resize((40, 30)), dtype=float) for one in (FILM, after)
    )
    first, second = small
    middle = (slice(8, 22), slice(10, 30))
    assert np.corrcoef(first[middle].ravel(), second[middle].ravel())[0, 1] > 0.3
    if after.shape == FILM.shape:
        assert (after != FILM).mean() > 0.005


@pytest.mark.parametrize("name", DISTURBANCES)
def test_one_film_is_disturbed_alike_each_time(name: str) -> None:
    """So that two models are measured on the very same bytes."""
    assert disturb(name, FILM, 7) == disturb(name, FILM, 7)


def test_they_are_as_strong_as_they_say() -> None:
    """Levels, spread, sides and masks, measured on what comes out."""
    assert disturbed("brightness -20 %").mean() == pytest.approx(0.8 * FILM.mean(), rel=0.02)
    assert disturbed("contrast -20 %").std() == pytest.approx(0.8 * FILM.std(), rel=0.02)
    assert disturbed("contrast -20 %").mean() == pytest.approx(FILM.mean(), rel=0.02)
    assert disturbed("gamma 0.7").mean() > FILM.mean() > disturbed("gamma 1.4").mean()
    assert disturbed("cropped by 10 %").shape == (270, 360)
    assert disturbed("resampled by half").shape == (150, 200)
    for name, share in (
        ("border masked, 10 % on each side", 0.64),
        ("border masked, 20 % on each side", 0.36),
    ):
        kept = disturbed(name) > 8
        assert kept.mean() == pytest.approx((FILM > 8).mean() * share, abs=0.05)
        assert not kept[:25].any()
    moved = disturbed("shifted by 5 %")
    assert any(
        abs(
            np.roll(moved, (down, right), (0, 1))[20:-20, 25:-25] - FILM[20:-20, 25:-25].astype(int)
        ).mean()
        < 3
        for down in (15, -15)
        for right in (20, -20)
    )
    left, right = (disturbed(f"turned 5 degrees {side}") for side in ("left", "right"))
    back = Image.fromarray(left).rotate(-10, Image.Resampling.BILINEAR)
    middle = (slice(80, 220), slice(100, 300))
    assert abs(np.asarray(back)[middle] - right[middle].astype(int)).mean() < 5
    changed = abs(disturbed("text drawn in") - FILM.astype(int)) > 40
    assert 0.002 < changed.mean() < 0.08
    assert not changed[120:].any(), "letters stand near the upper edge"
    lines = {name: np.diff(disturbed(name).astype(int), axis=1).std() for name in DISTURBANCES}
    plain = np.diff(FILM.astype(int), axis=1).std()
    assert lines["blur, 1.5 pixels of 512"] < plain < lines["noise, 10 grey levels"]
