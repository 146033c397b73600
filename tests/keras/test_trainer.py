"""One training run: it learns, repeats itself for a seed, survives a kill, and stops at NaN."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import draw
from once import once

from training.fit import checkpoints as watching
from training.fit import trainer
from training.fit.augmentation import cut_and_mix
from training.fit.batches import Shuffled
from training.fit.calibration import CalibrationFilms
from training.fit.checkpoints import ALL_EPOCHS, NO_BETTER, OUT_OF_TIME
from training.fit.trainer import Examples, FitLimits, Fitted, NonFiniteLossError, Recipe, fit
from worker.errors import DataError
from worker.imaging.preprocessing import resize

pytestmark = pytest.mark.slow

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
    return Examples(pixels=np.stack(pixels), rows=np.arange(count), labels=labels)


def build(seed: int = 0) -> Any:
    """Build a very small network."""
    import keras

    from training.fit.network import Architecture, build_network

    keras.utils.set_random_seed(seed)
    return build_network(
        Architecture(
            height=SIDE, width=SIDE, margin=0, stem=4, stages=(8,), strides=(2,), dropout=0.1
        )
    )


def weights(network: Any) -> list[Any]:
    """Return a network's weights as arrays."""
    return [np.array(weight) for weight in network.get_weights()]


STEPS = ["best.npz", "epoch-2.weights.h5", "epoch.json", "epoch-1.weights.h5"]  # as they are done


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A run that nothing disturbed, and what it left."""

    fitted: Fitted
    said: list[str]
    weights: list[Any]
    scratch: Path  # at its end
    killed: Path  # its scratch before each of the steps that keep its second epoch
    events: Path


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Fit once for all tests that ask what a fit gives, or go on from where it might be killed."""
    return once(tmp_path_factory, "whole-fit", _fit_whole)


def _fit_whole(root: Path) -> Whole:
    scratch, killed, events = root / "scratch", root / "killed", root / "events"
    begun, said = list[str](), list[str]()
    put, remove = Path.replace, Path.unlink

    def photograph(step: str) -> None:
        if len(begun) == 2 and step in STEPS and not (killed / step).exists():
            shutil.copytree(scratch, killed / step)

    def replacing(path: Path, target: Path) -> Path:
        begun.extend([target.name] if target.name == "curve.json" else [])
        photograph(target.name)
        return put(path, target)

    def unlinking(path: Path, **options: bool) -> None:
        photograph(path.name)
        remove(path, **options)

    network, films = build(), examples()
    with pytest.MonkeyPatch.context() as watched:
        watched.setattr(Path, "replace", replacing)
        watched.setattr(Path, "unlink", unlinking)
        limits = FitLimits(tensorboard=events)
        fitted = fit(
            network,
            films,
            CalibrationFilms(examples=films),
            QUICK,
            scratch=scratch,
            say=said.append,
            limits=limits,
        )
    return Whole(
        fitted=fitted,
        said=said,
        weights=weights(network),
        scratch=scratch,
        killed=killed,
        events=events,
    )


def assert_same(network: Any, expected: Sequence[Any]) -> None:
    """Check that a network's weights are these, to the last bit."""
    for one, other in zip(weights(network), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_seed_gives_another_network(tmp_path: Path, whole: Whole) -> None:
    """From the same first weights. That the same seed gives the same is shown below."""
    network, films = build(), examples()
    fit(
        network,
        films,
        CalibrationFilms(examples=films),
        replace(QUICK, seed=2),
        scratch=tmp_path,
        say=lambda _: None,
    )
    assert not np.array_equal(weights(network)[0], whole.weights[0])


def test_each_epoch_is_said_and_recorded(whole: Whole) -> None:
    """A person who watches sees a line an epoch; the curve holds finite numbers of each."""
    assert [line.split(":")[0] for line in whole.said] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert [epoch["epoch"] for epoch in whole.fitted.curve] == [1, 2, 3]
    assert all(np.isfinite(list(epoch.values())).all() for epoch in whole.fitted.curve)


def test_a_loss_that_is_not_finite_stops_with_its_step(tmp_path: Path) -> None:
    """A weight gone bad ends the run at once, by name, and not with a silent junk model."""
    network, films = build(), examples()
    network.get_layer("head").bias.assign([np.nan])
    with pytest.raises(NonFiniteLossError, match="step 1 of epoch 1"):
        fit(
            network,
            films,
            CalibrationFilms(examples=films),
            QUICK,
            scratch=tmp_path,
            say=lambda _: None,
        )


@pytest.mark.parametrize(
    "step", [STEPS[0], *(pytest.param(step, marks=pytest.mark.slow) for step in STEPS[1:])]
)
def test_a_run_killed_while_it_keeps_an_epoch_ends_alike(
    tmp_path: Path, whole: Whole, step: str
) -> None:
    """Before any of the steps: what was done is not done again, and no bit differs."""
    scratch = shutil.copytree(whole.killed / step, tmp_path / "scratch")
    network, films, said = build(), examples(), list[str]()
    fitted = fit(
        network, films, CalibrationFilms(examples=films), QUICK, scratch=scratch, say=said.append
    )
    again = (3,) if step == STEPS[-1] else (2, 3)
    assert [line.split(":")[0] for line in said] == [f"epoch {number}/3" for number in again]
    assert [epoch["epoch"] for epoch in fitted.curve] == [1, 2, 3]
    assert_same(network, whole.weights)
    states = scratch.glob("epoch-*.weights.h5")
    assert [path.name for path in states] == ["epoch-3.weights.h5"]


def test_a_folder_that_cannot_be_written_ends_a_fit_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of events under a file; of what the fit goes on from, on a disk that fills up."""
    films = examples()
    (tmp_path / "file").touch()
    limits = FitLimits(tensorboard=tmp_path / "file/events")
    with pytest.raises(DataError, match=r"^TensorBoard's .* \(Not a directory\):\n  /"):
        fit(
            build(),
            films,
            CalibrationFilms(examples=films),
            QUICK,
            scratch=tmp_path / "s",
            say=lambda _: None,
            limits=limits,
        )

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(watching, "write_atomically", full)
    with pytest.raises(
        DataError, match=r"^the state of a fit .* \(No space left on device\):\n  /"
    ):
        fit(
            build(),
            films,
            CalibrationFilms(examples=films),
            QUICK,
            scratch=tmp_path / "s",
            say=lambda _: None,
        )


def test_a_run_that_had_ended_is_not_gone_on_with(tmp_path: Path, whole: Whole) -> None:
    """Killed after fitting, before its package: the weights are there, and no epoch is added."""
    scratch = shutil.copytree(whole.scratch, tmp_path / "scratch")
    network, films, said = build(seed=9), examples(), list[str]()
    fitted = fit(
        network, films, CalibrationFilms(examples=films), QUICK, scratch=scratch, say=said.append
    )
    assert said == []
    assert (fitted.ended, len(fitted.curve)) == (ALL_EPOCHS, 3)
    assert_same(network, whole.weights)


@pytest.mark.parametrize("name", ["epoch.json", "epoch-3.weights.h5", "best.npz"])
def test_a_damaged_state_counts_as_none(tmp_path: Path, whole: Whole, name: str) -> None:
    """Whatever a power cut left there, the run starts over, with the weights it was given."""
    scratch = shutil.copytree(whole.scratch, tmp_path / "scratch")
    damage(scratch / name)
    network = build()
    before = weights(network)
    trainee = trainer._compiled(network, QUICK, steps_per_epoch=3)
    assert watching.Scratch(scratch).take_up(trainee) == (0, None)
    assert_same(network, before)


def damage(path: Path) -> None:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[:20])


def test_a_damaged_scratch_costs_time_and_no_more(tmp_path: Path, whole: Whole) -> None:
    """A run that starts over among the ruins ends as one that nothing disturbed, to the bit."""
    scratch = shutil.copytree(whole.scratch, tmp_path / "scratch")
    for path in scratch.iterdir():
        damage(path)
    network, films = build(), examples()
    fitted = fit(
        network, films, CalibrationFilms(examples=films), QUICK, scratch=scratch, say=lambda _: None
    )
    assert fitted.ended == ALL_EPOCHS
    assert_same(network, whole.weights)
    assert {path.suffix for path in scratch.iterdir()} == {".json", ".npz", ".h5"}


def test_a_lost_curve_is_a_lost_picture(tmp_path: Path, whole: Whole) -> None:
    """The weights do not need it: nothing is fitted again."""
    scratch = shutil.copytree(whole.scratch, tmp_path / "scratch")
    damage(scratch / "curve.json")
    network, films, said = build(seed=9), examples(), list[str]()
    fitted = fit(
        network, films, CalibrationFilms(examples=films), QUICK, scratch=scratch, say=said.append
    )
    assert (fitted.curve, said) == ([], [])
    assert_same(network, whole.weights)


def test_the_best_epoch_on_the_calibration_side_is_taken(tmp_path: Path) -> None:
    """Nothing to learn but noise: it ends early, with the weights of the epoch that was best."""
    rng = np.random.default_rng(0)

    def noise(count: int) -> Examples:
        return Examples(
            pixels=rng.integers(0, 255, (count, SIDE, SIDE)).astype(np.uint8),
            rows=np.arange(count),
            labels=(np.arange(count) % 2).astype(np.float32),
        )

    recipe = Recipe(epochs=40, patience=3, batch=8, learning_rate=0.02)
    network, calibration = build(), CalibrationFilms(examples=noise(64))
    fitted = fit(network, noise(32), calibration, recipe, scratch=tmp_path, say=lambda _: None)
    found = [epoch["val_robust"] for epoch in fitted.curve]
    assert fitted.ended == NO_BETTER
    latest = len(found) - found[::-1].index(max(found))  # of equals
    assert fitted.epoch == latest == len(found) - 3
    films = calibration.examples
    logits = network.predict(films.pixels[..., np.newaxis], verbose=0)["logit"][:, 0]
    again = calibration.numbers(logits, label_smoothing=recipe.label_smoothing)
    assert again["val_robust"] == pytest.approx(max(found), abs=1e-3)
    assert again["val_loss"] == pytest.approx(fitted.curve[latest - 1]["val_loss"], rel=1e-4)


def test_a_run_out_of_time_ends_in_a_usable_model_and_goes_on_when_there_is_more(
    tmp_path: Path,
) -> None:
    """Within a step of its end, even in the first epoch, and the calibration side was looked at.

    A fit cut off by --max-minutes is not all there is to have of these films.
    """
    ticks = iter(range(10**6))
    films, network = examples(), build()
    before = weights(network)
    limits = FitLimits(stop_at=0.0, clock=lambda: float(next(ticks)))
    cut = fit(
        network,
        films,
        CalibrationFilms(examples=films),
        QUICK,
        scratch=tmp_path,
        say=lambda _: None,
        limits=limits,
    )
    assert cut.ended == OUT_OF_TIME
    assert [epoch["epoch"] for epoch in cut.curve] == [1]
    assert np.isfinite(cut.curve[-1]["val_loss"])
    changed = zip(before, weights(network), strict=True)
    assert any(not np.array_equal(one, other) for one, other in changed)

    said = list[str]()
    fitted = fit(
        build(), films, CalibrationFilms(examples=films), QUICK, scratch=tmp_path, say=said.append
    )
    assert fitted.ended == ALL_EPOCHS
    assert [line.split(":")[0] for line in said] == ["epoch 2/3", "epoch 3/3"]
    assert [epoch["epoch"] for epoch in fitted.curve] == [1, 2, 3]


def test_event_files_hold_each_epochs_numbers(whole: Whole) -> None:
    """TensorFlow's own reader finds in them what the curve holds."""
    import tensorflow as tf

    (file,) = whole.events.glob("events.out.tfevents.*")
    records = tf.data.TFRecordDataset(str(file))
    events = [tf.compat.v1.Event.FromString(record.numpy()) for record in records]
    assert events[0].file_version == "brain.Event:2"
    scalars = [
        {value.tag: value.simple_value for value in event.summary.value} for event in events[1:]
    ]
    assert [event.step for event in events[1:]] == [1, 2, 3]
    for numbers, expected in zip(scalars, whole.fitted.curve, strict=True):
        assert numbers == pytest.approx(expected, rel=1e-6)


def test_both_classes_weigh_the_same(tmp_path: Path) -> None:
    """Nine NORMAL films to one PNEUMONIA: a network without an idea stays undecided."""
    rng = np.random.default_rng(0)
    labels = (np.arange(80) % 10 == 0).astype(np.float32)
    pixels = rng.integers(0, 255, (80, SIDE, SIDE)).astype(np.uint8)
    noise = Examples(pixels=pixels, rows=np.arange(80), labels=labels)
    network = build()
    fit(
        network,
        noise,
        CalibrationFilms(examples=noise),
        QUICK,
        scratch=tmp_path,
        say=lambda _: None,
    )
    logits = network.predict(noise.pixels[..., np.newaxis], verbose=0)["logit"]
    assert abs(float(logits.mean())) < 1.0  # films as they come: near log(1/9) = -2.2


def test_an_epoch_is_half_normal_and_half_pneumonia() -> None:
    """As long as if each film came once; in turn it shows all of the larger class too."""
    labels = (np.arange(60) % 6 > 0).astype(np.float32)  # 10 NORMAL, 50 PNEUMONIA
    pixels = np.arange(60, dtype=np.uint8)[:, np.newaxis, np.newaxis]  # each film is its number
    films = Examples(pixels=pixels, rows=np.arange(60), labels=labels)
    batches = Shuffled(films, batch=16, seed=1, mixed_share=0.0)
    seen = set[int]()
    for epoch in range(6):
        batches.turn_to(epoch)
        shown, told = zip(*(batches[position] for position in range(len(batches))), strict=True)
        numbers = np.concatenate(shown).ravel()
        np.testing.assert_array_equal(np.concatenate(told)[:, 0], labels[numbers])
        assert len(numbers) == 60
        assert labels[numbers].sum() == 30
        assert set(np.flatnonzero(labels == 0)) <= set(numbers)
        assert len(set(numbers)) == 40  # ten three times over, and thirty of the fifty once
        seen |= set(numbers.tolist())
    assert seen == set(range(60))


def test_one_class_alone_stops(tmp_path: Path) -> None:
    """There is nothing to learn from films of one class."""
    films = examples()
    alone = Examples(pixels=films.pixels, rows=films.rows, labels=np.zeros_like(films.labels))
    with pytest.raises(DataError, match="both classes"):
        fit(
            build(),
            alone,
            CalibrationFilms(examples=films),
            QUICK,
            scratch=tmp_path,
            say=lambda _: None,
        )


@pytest.mark.parametrize("margin", [0, 4, 8])
def test_the_map_lies_over_the_whole_film(margin: int) -> None:
    """However wide the margin, a cell of the map is a square of the film, and the sum stays."""
    from training.fit.network import Architecture, build_network

    architecture = Architecture(
        height=48, width=48, margin=margin, stem=4, stages=(8, 8), strides=(2, 2), dropout=0.0
    )
    films = examples(3).pixels
    films = np.pad(films, ((0, 0), (8, 8), (8, 8)))[..., np.newaxis]
    output = build_network(architecture).predict(films, verbose=0)
    rows = output["evidence"].shape[1]
    assert 48 % rows == 0
    rim = margin * rows // 48
    assert rim * 48 == margin * rows
    np.testing.assert_allclose(
        output["evidence"].sum(axis=(1, 2)), output["logit"], rtol=1e-4, atol=1e-5
    )
    outside = np.ones((rows, rows), dtype=bool)
    outside[rim : rows - rim, rim : rows - rim] = False
    assert (output["evidence"][:, outside] == 0).all()


def test_augmentation_is_for_training_alone() -> None:
    """Serving sees the film as it is; training sees others each time, within the grey levels."""
    from training.fit.augmentation import Augmentation

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
    from training.fit.augmentation import Augmentation

    layer = Augmentation(seed=3)
    layer.limits = dict.fromkeys(layer.limits, 0.0)
    films = examples(8).pixels[..., np.newaxis].astype(np.float32)
    moved = np.array(layer._move(films))
    mirrored = [np.array_equal(out, film) for out, film in zip(moved, films, strict=True)]
    turned = [
        np.allclose(out, film[:, ::-1], atol=0.1) for out, film in zip(moved, films, strict=True)
    ]
    assert all(a != b for a, b in zip(mirrored, turned, strict=True))
    assert any(mirrored)
    assert any(turned)


def test_augmentation_moves_films_as_far_as_it_is_told() -> None:
    """Followed by a bright spot, 12 pixels below the middle of each of twenty films."""
    from training.fit.augmentation import Augmentation

    def moved(**limits: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return where the spot is on each film, from the middle, and how much there is of it."""
        spots = np.zeros((20, 60, 60, 1), dtype=np.float32)
        spots[:, 40:44, 28:32] = 1
        still = dict.fromkeys(("degrees", "closer", "farther", "stretch", "shift"), 0.0)
        films = np.array(Augmentation(seed=3, **still | limits)._move(spots))[..., 0]
        rows, columns = np.indices((60, 60)) - 29.5
        there = films.sum(axis=(1, 2))
        down, across = ((films * way).sum(axis=(1, 2)) / there for way in (rows, columns))
        return down, across, there / 16

    down, across, _ = moved(shift=0.1)
    assert np.ptp(down) > 6
    assert np.ptp(across) > 6
    assert np.abs([down - 12, across]).max() <= 6.01
    down, across, _ = moved(degrees=30.0)
    np.testing.assert_allclose(np.hypot(down, across), 12, atol=0.1)
    assert 15 < np.rad2deg(np.arctan2(np.abs(across), down)).max() <= 30.5
    down, _, size = moved(closer=0.2, farther=0.1)
    np.testing.assert_allclose(size, (down / 12) ** 2, rtol=0.1)  # both sides alike
    assert np.exp(-0.1) - 0.01 <= down.min() / 12 < 1.1 < down.max() / 12 <= np.exp(0.2) + 0.01
    down, across, size = moved(stretch=0.2)
    np.testing.assert_allclose(across, 0, atol=0.01)
    assert 1.1 < down.max() / 12 <= np.exp(0.2) + 0.01
    assert np.exp(-0.4) - 0.05 <= size.min() < size.max() <= np.exp(0.4) + 0.05
    assert np.ptp(size - (down / 12) ** 2) > 0.1  # across by itself, not as down


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
