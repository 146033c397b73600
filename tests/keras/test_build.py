"""From a Keras network to a package that the worker accepts, bit for bit what was measured."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from films import draw

from training.evaluate.metrics import OperatingPoint
from training.fit.warm_start import CONTINUED
from training.package import build
from worker.errors import DataError, ModelPackageError, RegistryError
from worker.imaging.preprocessing import Pixels, resize
from worker.model.manifest import SERVED
from worker.model.registry import Registry
from worker.model.runtime import Model, load

NOW = datetime(2026, 11, 23, 4, 5, 6, tzinfo=UTC)
SIDE = 64
MARGIN = 8
POINT = OperatingPoint(temperature=1.25, threshold=0.375, review_band=(0.25, 0.5))


@pytest.fixture(scope="module")
def network() -> Any:
    """Build a small network whose weights are random, batch statistics and bias included."""
    import keras

    from training.fit.network import Architecture, build_network

    keras.utils.set_random_seed(5)
    architecture = Architecture(
        height=SIDE, width=SIDE, margin=MARGIN, stem=8, stages=(8, 16), strides=(2, 2), dropout=0.5
    )
    network = build_network(architecture)
    rng = np.random.default_rng(5)
    for weight in network.weights:
        if weight.dtype == "float32" and len(weight.shape) == 1:  # kernels are random already
            weight.assign(weight + rng.uniform(0.05, 0.3, weight.shape).astype(np.float32))
    return network


@pytest.fixture(scope="module")
def exported(network: Any) -> build.Exported:
    """Export the network once."""
    return build.export(network, now=NOW)


@pytest.fixture
def published(exported: build.Exported, tmp_path: Path) -> Path:
    """Stage and publish a package of it."""
    registry = Registry(tmp_path)
    staged = build.stage(registry, exported, POINT, training={"seed": 5}, now=NOW)
    build.add_files(staged, {"card.md": b"# A card\n"})
    return registry.publish(staged, exported.version)


@pytest.fixture
def model(published: Path) -> Model:
    """Load it as the worker does."""
    return load(published)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """Draw films at the network's size."""
    return np.stack([resize(draw(seed), height=SIDE, width=SIDE) for seed in range(4)])


@pytest.mark.parametrize("who", ["Keras", "TensorFlow"])
def test_no_room_for_what_is_temporary_is_told_in_a_line(
    network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Whichever library meets it: what is wrong in the first line, where it is below."""
    import tensorflow as tf

    def full(folder: Path, **_: object) -> None:
        if who == "Keras":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        raise tf.errors.ResourceExhaustedError(None, None, f"{folder}; No space left on device")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(network, "save" if who == "Keras" else "export", full)
    with pytest.raises((DataError, ModelPackageError)) as ended:
        build.export(network, now=NOW)
    matter, where = str(ended.value).split("\n")
    why = "No space left on device" if who == "Keras" else "ResourceExhaustedError"
    assert matter == f"the network cannot be exported ({why}):"
    assert where.startswith(f"  {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_the_worker_accepts_the_package(model: Model, published: Path) -> None:
    """Loads with all its checks, promotes, and carries what was chosen for it."""
    registry = Registry(published.parent)
    registry.promote(published.name)
    assert registry.champion() == published.name
    manifest = model.manifest
    assert (manifest.temperature, manifest.threshold) == (POINT.temperature, POINT.threshold)
    assert manifest.review_band == POINT.review_band
    assert manifest.training == {"seed": 5}
    assert manifest.created_at == "2026-11-23T04:05:06+00:00"


def test_version_is_the_date_and_the_served_files_hash(published: Path) -> None:
    """Two nights cannot give one name to two models."""
    digest = hashlib.sha256((published / SERVED).read_bytes()).hexdigest()
    assert published.name == f"20261123-{digest[:8]}"


def test_every_file_of_the_package_is_named_in_the_manifest(model: Model, published: Path) -> None:
    """Nothing lies in a package that its manifest does not vouch for."""
    there = {path.name for path in published.iterdir()}
    assert there == {*model.manifest.files, "manifest.json"}
    assert {"model.tflite", "model.keras", "golden.npz", "card.md"} <= there


def test_served_file_gives_what_the_network_gives(
    model: Model, network: Any, pixels: Pixels
) -> None:
    """Logit, evidence and features under their own names, Keras's but for 8-bit rounding."""
    expected = network.predict(pixels[..., np.newaxis], verbose=0)
    for row, film in enumerate(pixels):
        output = model.predict(film)
        assert output.logit == pytest.approx(float(expected["logit"][row, 0]), abs=0.02)
        np.testing.assert_allclose(output.evidence, expected["evidence"][row, :, :, 0], atol=2e-3)
        np.testing.assert_allclose(output.features, expected["features"][row], atol=0.02)


def test_evidence_sums_to_the_logit(model: Model, network: Any, pixels: Pixels) -> None:
    """The map explains the logit whole, bias included, and so do the pooled features."""
    head = network.get_layer("head")
    kernel, bias = np.asarray(head.kernel)[:, 0], float(head.bias[0])
    assert abs(bias) > 0.01
    for film in pixels:
        output = model.predict(film)
        assert output.evidence.shape == (8, 8)
        assert float(output.evidence.sum()) == pytest.approx(output.logit, abs=1e-4)
        assert float(output.features @ kernel) + bias == pytest.approx(output.logit, abs=0.02)


def test_what_lies_in_the_margin_says_nothing(model: Model, pixels: Pixels) -> None:
    """Letters and borders in the rim move no logit, and the map shows nothing there."""
    for film in pixels:
        marked, other = film.copy(), film.copy()
        marked[:MARGIN:2], marked[:, -MARGIN::2] = 255, 0  # stripes: an even frame is filled
        other[MARGIN], other[:, -MARGIN - 1] = 255, 0
        output = model.predict(film)
        assert model.predict(marked).logit == output.logit
        assert model.predict(other).logit != output.logit
        inside = output.evidence[1:-1, 1:-1]
        assert (inside != 0).all()
        assert np.count_nonzero(output.evidence) == inside.size


def test_a_frame_is_as_good_as_the_film_continued(model: Model, pixels: Pixels) -> None:
    """Black around a film, wider than what is not looked at, adds nothing of its own."""
    wide = 2 * MARGIN
    for film in pixels:
        framed = np.zeros_like(film)
        framed[wide:-wide, wide:-wide] = film[wide:-wide, wide:-wide]
        rows, columns = (np.clip(np.arange(n), wide + 1, n - wide - 2) for n in film.shape)
        assert model.predict(framed).logit == model.predict(film[np.ix_(rows, columns)]).logit


def test_exposure_hardly_moves_the_logit(model: Model, pixels: Pixels) -> None:
    """Darker, or of half the contrast: the same film, which normalisation inside takes care of."""
    softer = (pixels // 2 + 40).astype(np.uint8)
    others = [model.predict(film).logit for film in np.roll(pixels, 1, axis=0)]
    for film, soft, other in zip(pixels, softer, others, strict=True):
        logit = model.predict(film).logit
        assert abs(model.predict(soft).logit - logit) < 0.2 * abs(other - logit)


def test_shifting_the_logit_shifts_every_logit(network: Any, pixels: Pixels) -> None:
    """The calibration's shift goes into the bias, and its evidence with it."""
    from training.fit.network import shift_logit

    before = network.predict(pixels[..., np.newaxis], verbose=0)
    shift_logit(network, 0.75)
    after = network.predict(pixels[..., np.newaxis], verbose=0)
    shift_logit(network, -0.75)
    np.testing.assert_allclose(after["logit"], before["logit"] + 0.75, atol=1e-5)
    np.testing.assert_allclose(
        after["evidence"].sum(axis=(1, 2)), before["evidence"].sum(axis=(1, 2)) + 0.75, atol=1e-5
    )


def test_training_can_continue_from_the_package(
    published: Path, network: Any, pixels: Pixels
) -> None:
    """`model.keras` opens, without code of its own to run, as the network it was."""
    import keras

    opened = keras.saving.load_model(published / CONTINUED)
    films = pixels[..., np.newaxis]
    np.testing.assert_allclose(
        opened.predict(films, verbose=0)["logit"],
        network.predict(films, verbose=0)["logit"],
        atol=1e-5,
    )


def test_golden_inputs_are_drawn_and_tell_models_apart(published: Path) -> None:
    """Golden films are the same on every machine, and their outputs differ from each other."""
    with np.load(published / "golden.npz") as golden:
        inputs, logits = golden["inputs"], golden["logits"]
    np.testing.assert_array_equal(inputs, build.draw_golden(SIDE, SIDE))
    assert np.ptp(logits) > 0.01


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "card.md"])
def test_a_file_changed_afterwards_is_noticed(published: Path, name: str) -> None:
    """One byte of any file, and the package does not load."""
    path = published / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelPackageError, match=name):
        load(published)


def test_the_same_model_is_not_packaged_twice(exported: build.Exported, published: Path) -> None:
    """A version never changes once it has its name."""
    with pytest.raises(RegistryError, match="exists already"):
        build.stage(Registry(published.parent), exported, POINT, training={}, now=NOW)


def test_a_record_is_added_once(exported: build.Exported, tmp_path: Path) -> None:
    """A second file of one name is refused: the first may have been measured on."""
    staged = build.stage(Registry(tmp_path), exported, POINT, training={}, now=NOW)
    build.add_files(staged, {"card.md": b"one"})
    with pytest.raises(RegistryError, match="has a card"):
        build.add_files(staged, {"card.md": b"two"})


def test_a_record_holds_no_nan() -> None:
    """evaluation.json is JSON: NaN, which is not, stops the packaging."""
    with pytest.raises(ValueError, match="JSON"):
        build.to_json({"auc": float("nan")})
