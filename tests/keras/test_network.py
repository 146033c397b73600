"""What the network does to a film before it looks at it."""

from __future__ import annotations

import json
import zipfile
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from checkout import REPOSITORY
from films import draw
from packages import read_golden

from training.fit.batches import Examples
from training.fit.calibration import CalibrationFilms
from training.fit.network import Architecture, BlurPool, FillFrame, build_network
from training.fit.trainer import Recipe, fit
from training.fit.warm_start import CONTINUED

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


def test_fine_grain_is_blurred_before_it_is_halved() -> None:
    """A chequered map comes out even, wherever it lies; strided it would be all 0 or all 1."""
    chequered = (np.indices((16, 16)).sum(axis=0) % 2).astype(np.float32)
    maps = np.stack([chequered, 1 - chequered])[..., np.newaxis]
    given = np.asarray(BlurPool()(maps))[..., 0]
    assert given.shape == (2, 8, 8)
    np.testing.assert_allclose(given[:, :-1, :-1], 0.5)  # the last lie at the edge


def test_each_map_is_blurred_by_itself() -> None:
    """What one channel shows stays in it, and as much of it."""
    maps = np.zeros((1, 8, 8, 3), dtype=np.float32)
    maps[0, 3, 5, 1] = 16
    given = np.asarray(BlurPool()(maps))
    assert given[0, :, :, 1].sum() == 4  # a quarter of the pixels
    assert not given[..., [0, 2]].any()


def test_a_network_that_strides_can_still_be_built() -> None:
    """The same weights fit either, so that they can be compared."""
    sizes = {"height": SIDE, "width": SIDE, "margin": 0, "stem": 4, "stages": (8, 8)}
    blurring, striding = (
        build_network(Architecture(**sizes, strides=(2, 2), anti_aliased=blurred))  # type: ignore[arg-type]
        for blurred in (True, False)
    )
    striding.set_weights(blurring.get_weights())
    assert any(isinstance(layer, BlurPool) for layer in blurring.layers)
    assert not any(isinstance(layer, BlurPool) for layer in striding.layers)
    film_of_one = film()[np.newaxis, ..., np.newaxis]
    one, other = (network.predict(film_of_one, verbose=0) for network in (blurring, striding))
    assert one["evidence"].shape == other["evidence"].shape
    assert one["logit"] != other["logit"]


def test_training_goes_on_from_a_package_made_before_the_modules_moved(tmp_path: Path) -> None:
    """It names modules that are gone; its layers are known by their names alone."""
    earlier = REPOSITORY / "models" / "20261126-a43a897a"
    kept = earlier / CONTINUED
    with zipfile.ZipFile(kept) as archive:
        config = json.loads(archive.read("config.json"))
    modules = {layer["module"] for layer in config["config"]["layers"]}
    gone = {"training.augmentation", "training.network"}
    assert gone <= modules
    assert not any(find_spec(name) for name in gone)

    golden = read_golden(earlier)
    films = golden["inputs"]
    network = build_network(Architecture.of(films.shape[1]))
    network.load_weights(kept)
    opened = keras.saving.load_model(kept)
    logits = [
        one.predict(films[..., np.newaxis], verbose=0)["logit"][:, 0] for one in (network, opened)
    ]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-5)
    np.testing.assert_allclose(logits[0], golden["logits"], atol=0.5)  # which is of 8 bits

    labels = (np.arange(len(films)) % 2).astype(np.float32)
    examples = Examples(pixels=films, rows=np.arange(len(films)), labels=labels)
    recipe = Recipe(epochs=1, batch=len(films))
    fit(
        network,
        examples,
        CalibrationFilms(examples=examples),
        recipe,
        scratch=tmp_path,
        say=lambda _: None,
    )
    assert np.isfinite(network.predict(films[..., np.newaxis], verbose=0)["logit"]).all()
