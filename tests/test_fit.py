"""One training run: it learns, repeats itself for a seed, survives a kill, and stops at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import draw

from training.augmentation import cut_and_mix
from training.fit import Examples, NonFiniteLossError, Recipe, fit
from worker.errors import DataError
from worker.preprocessing import resize

SIDE = 32
QUICK = Recipe(epochs=3, batch=8, mixed_share=0.5)


def examples(count: int = 24, first: int = 0) -> Examples:
    """Draw films, a third of them with an opacity."""
    labels = np.array([number % 3 == 0 for number in range(count)], dtype=np.float32)
    pixels = [
        resize(
            draw(first + number, width=160, height=120, opacity=float(label)),
            height=SIDE,
            width=SIDE,
        )
        for number, label in enumerate(labels)
    ]
    return Examples(pixels=np.stack(pixels), labels=labels)


def build(seed: int = 0) -> Any:
    """Build a very small network."""
    import keras

    from training.network import Architecture, build_network

    keras.utils.set_random_seed(seed)
    return build_network(
        Architecture(height=SIDE, width=SIDE, stem=4, stages=(8,), strides=(2,), dropout=0.1)
    )


def weights(network: Any) -> list[Any]:
    """Return a network's weights as arrays."""
    return [np.array(weight) for weight in network.get_weights()]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    """Two runs agree to the last bit, and another seed gives another network."""
    films, results = examples(), []
    for run, seed in enumerate((1, 1, 2)):
        network = build(seed)
        recipe = Recipe(epochs=1, batch=8, seed=seed)
        fit(network, films, films, recipe, scratch=tmp_path / str(run), say=lambda _: None)
        results.append(np.concatenate([w.ravel() for w in weights(network)]))
    np.testing.assert_array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_each_epoch_is_said_and_recorded(tmp_path: Path) -> None:
    """A person who watches sees a line an epoch; the curve holds finite numbers of each."""
    said: list[str] = []
    films = examples()
    curve = fit(build(), films, films, QUICK, scratch=tmp_path, say=said.append)
    assert [line.split(":")[0] for line in said] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3]
    assert all(np.isfinite(list(epoch.values())).all() for epoch in curve)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path: Path) -> None:
    """A weight gone bad ends the run at once, by name, and not with a silent junk model."""
    network, films = build(), examples()
    network.get_layer("head").bias.assign([np.nan])
    with pytest.raises(NonFiniteLossError, match="step 1 of epoch 1"):
        fit(network, films, films, QUICK, scratch=tmp_path, say=lambda _: None)


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    """What was done is not done again, and the curve is whole in the end."""
    said: list[str] = []

    def stop_after_two(line: str) -> None:
        said.append(line)
        if line.startswith("epoch 2/"):
            raise KeyboardInterrupt

    films = examples()
    with pytest.raises(KeyboardInterrupt):
        fit(build(), films, films, QUICK, scratch=tmp_path, say=stop_after_two)
    said.clear()
    curve = fit(build(seed=9), films, films, QUICK, scratch=tmp_path, say=said.append)
    assert [line.split(":")[0] for line in said] == ["epoch 3/3"]
    assert [epoch["epoch"] for epoch in curve] == [1, 2, 3]


def test_both_classes_weigh_the_same(tmp_path: Path) -> None:
    """Nine NORMAL films to one PNEUMONIA: a network without an idea stays undecided."""
    rng = np.random.default_rng(0)
    labels = (np.arange(80) % 10 == 0).astype(np.float32)
    noise = Examples(pixels=rng.integers(0, 255, (80, SIDE, SIDE)).astype(np.uint8), labels=labels)
    network = build()
    fit(network, noise, noise, QUICK, scratch=tmp_path, say=lambda _: None)
    logits = network.predict(noise.pixels[..., np.newaxis], verbose=0)["logit"]
    assert abs(float(logits.mean())) < 1.0  # unweighted, it would be near log(1/9) = -2.2


def test_one_class_alone_stops(tmp_path: Path) -> None:
    """There is nothing to learn from films of one class."""
    films = examples()
    alone = Examples(pixels=films.pixels, labels=np.zeros_like(films.labels))
    with pytest.raises(DataError, match="both classes"):
        fit(build(), alone, films, QUICK, scratch=tmp_path, say=lambda _: None)


def test_augmentation_is_for_training_alone() -> None:
    """Serving sees the film as it is; training sees others each time, within the grey levels."""
    from training.augmentation import Augmentation

    films = examples(4).pixels[..., np.newaxis]
    layer = Augmentation(seed=3)
    np.testing.assert_array_equal(np.array(layer(films)), films)
    one, other = (np.array(layer(films, training=True)) for _ in range(2))
    assert one.shape == films.shape
    assert one.min() >= 0
    assert one.max() <= 255
    assert np.abs(one - other).mean() > 5
    assert (
        len(
            {
                round(float(np.abs(changed - film).mean()), 3)
                for changed, film in zip(one, films, strict=True)
            }
        )
        == 4
    )


def test_augmentation_leaves_the_film_in_place_when_told_to() -> None:
    """With every limit at zero only the mirror is left: the geometry itself is exact."""
    from training.augmentation import Augmentation

    names = ("degrees", "zoom", "shift", "gamma", "contrast", "brightness", "noise", "edge")
    layer = Augmentation(**dict.fromkeys(names, 0.0), seed=3)
    films = examples(8).pixels[..., np.newaxis].astype(np.float32)
    moved = np.array(layer._move(films))
    mirrored = [np.array_equal(out, film) for out, film in zip(moved, films, strict=True)]
    turned = [
        np.allclose(out, film[:, ::-1], atol=0.1) for out, film in zip(moved, films, strict=True)
    ]
    assert all(a != b for a, b in zip(mirrored, turned, strict=True))
    assert any(mirrored)
    assert any(turned)


def test_cut_and_mix_mixes_labels_by_area() -> None:
    """Black films of label 0 and white ones of label 1: the mean grey level is the label."""
    labels = np.array([0, 1] * 8, dtype=np.float32)
    films = np.repeat(labels[:, None], SIDE * SIDE, axis=1).reshape(-1, SIDE, SIDE) * 255
    for seed in range(20):
        mixed, mixed_labels = cut_and_mix(
            films.astype(np.uint8), labels, np.random.default_rng(seed)
        )
        np.testing.assert_allclose(mixed.mean(axis=(1, 2)) / 255, mixed_labels, atol=1e-5)
    assert set(np.unique(films)) == {0, 255}
