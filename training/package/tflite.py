"""Converts a Keras network to the served file, by TensorFlow's converter.

    KERAS_BACKEND=tensorflow python -m training.package.tflite model.keras model.tflite

If another backend trained, a separate process loads the weights under TensorFlow.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

from training.fit import network as _network  # noqa: F401 - registers our layers with Keras
from training.io import needed
from worker.errors import ModelPackageError

_TROUBLE = "the network cannot be exported"


def to_files(network: keras.Model) -> tuple[bytes, bytes]:
    """Return the file that serves, and the file that training continues from.

    Args:
        network: from `network.build_network`, on any backend.

    Raises:
        ModelPackageError: the converting process failed, with its last line, or TensorFlow's
            files cannot be written.
        DataError: the temporary folder cannot be written.
    """
    with _aside() as folder:
        kept, served = folder / "model.keras", folder / "model.tflite"
        network.save(kept)
        if keras.backend.backend() == "tensorflow":
            served.write_bytes(_convert(network, folder / "saved"))
        else:
            _convert_elsewhere(kept, served)
        return served.read_bytes(), kept.read_bytes()


@contextmanager
def _aside() -> Iterator[Path]:
    """Make a temporary folder while the context lasts."""
    place = Path(tempfile.gettempdir())
    with needed(_TROUBLE, place), tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def _convert(network: keras.Model, saved: Path) -> bytes:
    import tensorflow as tf  # noqa: PLC0415 - slow to import

    _, height, width, _ = network.input_shape
    film = keras.InputSpec(shape=(1, height, width, 1), dtype="uint8")
    try:
        network.export(saved, format="tf_saved_model", verbose=False, input_signature=[film])
    except tf.errors.OpError as error:  # also TensorFlow's error for a full disk
        raise ModelPackageError(f"{_TROUBLE} ({type(error).__name__}):\n  {error}") from error
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    # 8-bit weights, and activations rounded to 8 bits by their range in each film, take a quarter
    # of the time and the size. The loss is measured, because the file itself is evaluated.
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    served: bytes = converter.convert()
    return served


def _convert_elsewhere(kept: Path, served: Path) -> None:
    run = subprocess.run(  # noqa: S603 - our own module, on our own interpreter
        [sys.executable, "-m", "training.package.tflite", str(kept), str(served)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
        raise ModelPackageError(f"{_TROUBLE}: {lines[-1]}")


def main() -> int:
    """Convert one file."""
    kept, served = (Path(name) for name in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        served.write_bytes(_convert(keras.saving.load_model(kept), Path(folder) / "saved"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
