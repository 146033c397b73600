"""One training run: a network and decoded films in, the network fitted.

Keras alone, so that another of its backends can train. The same seed on the same machine gives the
same weights. A killed run goes on from its last whole epoch if it is given the same scratch folder.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from training.augmentation import Labels, cut_and_mix
from worker.errors import DataError
from worker.files import write_atomically
from worker.preprocessing import Pixels

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train. Travels in the manifest."""

    epochs: int = 40
    seed: int = 20
    batch: int = 64  # films in a step
    learning_rate: float = 2e-3  # at its peak; a short rise, then a cosine to zero
    weight_decay: float = 0.02  # of kernels; AdamW, Loshchilov and Hutter 2019
    label_smoothing: float = 0.05
    mixed_share: float = 0.5  # of batches that are cut and mixed


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Films and their labels, for a network."""

    pixels: Pixels  # (n, height, width) uint8
    labels: Labels  # (n,) float32, 1 for PNEUMONIA


class NonFiniteLossError(DataError):
    """The loss of a step is not a number. The message names the step."""


def fit(
    network: keras.Model,
    train: Examples,
    calibration: Examples,
    recipe: Recipe,
    *,
    scratch: Path,
    say: Say,
) -> list[dict[str, float]]:
    """Fit the network in place, and leave it with its averaged weights.

    Args:
        network: from `network.build_network`.
        train: what it learns from, both classes weighing the same.
        calibration: watched once an epoch; nothing is chosen by it here.
        recipe: how.
        scratch: a folder for the state after each epoch, so that a killed run can go on.
        say: is given one line an epoch.

    Returns:
        The curve: for each epoch the `loss`, `val_loss`, `val_auc`, `epoch` and `seconds`.

    Raises:
        NonFiniteLossError: naming the epoch and step.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    batches = _Batches(train, recipe)
    trainee = keras.Model(network.input, network.output["logit"], name="trainee")
    trainee.compile(
        optimizer=_optimizer(recipe, steps_per_epoch=len(batches)),
        loss=keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        weighted_metrics=[keras.metrics.AUC(name="auc", from_logits=True)],
        # TensorFlow's XLA cannot compile the image warp; other backends compile anyway.
        jit_compile=False,
    )
    record = _Record(scratch / "curve.json", recipe.epochs, say)
    trainee.fit(
        batches,
        epochs=recipe.epochs,
        shuffle=False,  # `batches` shuffles, by its seed
        validation_data=(
            calibration.pixels[..., np.newaxis],
            calibration.labels[:, np.newaxis],
            _balance(calibration.labels),
        ),
        validation_batch_size=256,
        callbacks=[
            keras.callbacks.BackupAndRestore(scratch / "epoch", delete_checkpoint=False),
            batches.follow(),
            _StopNonFinite(),
            keras.callbacks.SwapEMAWeights(),  # calibration sees the averaged weights
            record,
        ],
        verbose=1 if sys.stderr.isatty() else 0,
    )
    return record.curve


def _balance(labels: Labels) -> Labels:
    """Return a weight for each film, (n,) float32, that makes both classes weigh the same."""
    positive = float(labels.mean())
    if not 0 < positive < 1:
        raise DataError("films of both classes are needed to train and to calibrate")
    weights = np.where(labels > 0.5, 0.5 / positive, 0.5 / (1 - positive))
    return weights.astype(np.float32)


def _optimizer(recipe: Recipe, *, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    steps = recipe.epochs * steps_per_epoch
    rise = min(2 * steps_per_epoch, steps // 5)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / 20,
        warmup_target=recipe.learning_rate,
        warmup_steps=rise,
        decay_steps=max(1, steps - rise),
    )
    # The average reaches over a fortieth of the run: it smooths without remembering the start.
    horizon = min(200.0, max(1.0, steps / 40))
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=recipe.weight_decay,
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=1 - 1 / horizon,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


class _Batches(keras.utils.PyDataset):  # type: ignore[misc] # keras has no types
    """Shuffled batches, each a function of seed, epoch and position alone."""

    def __init__(self, examples: Examples, recipe: Recipe) -> None:
        super().__init__()
        self._examples = examples
        self._recipe = recipe
        self._weights = _balance(examples.labels)
        self._epoch = 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self._examples.labels) / self._recipe.batch)

    def __getitem__(self, position: int) -> tuple[Pixels, Labels, Labels]:
        size = self._recipe.batch
        rows = self._order[position * size : (position + 1) * size]
        generator = np.random.default_rng((self._recipe.seed, self._epoch, position))
        pixels, labels = self._examples.pixels[rows], self._examples.labels[rows]
        weights = self._weights[rows]
        if generator.uniform() < self._recipe.mixed_share:
            pixels, labels = cut_and_mix(pixels, labels, generator)
        return pixels[..., np.newaxis], labels[:, np.newaxis], weights

    def follow(self) -> keras.callbacks.Callback:
        """Return what tells this at each epoch which one it is, after a restart too."""
        return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: self._turn_to(epoch))

    def _turn_to(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = self._shuffled()

    def _shuffled(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        generator = np.random.default_rng((self._recipe.seed, self._epoch))
        return generator.permutation(len(self._examples.labels))


class _StopNonFinite(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Raise at the first step whose loss is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the running mean of the loss, which one bad step makes bad for good."""
        loss = (logs or {}).get("loss", math.nan)
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss} at step {batch + 1} of epoch {self._epoch + 1}"
            )


class _Record(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Keep the curve, beside the run's state too, and say a line an epoch."""

    def __init__(self, path: Path, epochs: int, say: Say) -> None:
        super().__init__()
        self.curve: list[dict[str, float]] = []
        self._path = path
        self._epochs = epochs
        self._say = say
        self._started = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Take up what a killed run of the same plan had written."""
        del logs
        if self._path.is_file():
            self.curve = json.loads(self._path.read_bytes())

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the epoch's clock, and drop what is about to be done again."""
        del logs
        self.curve = [numbers for numbers in self.curve if numbers["epoch"] <= epoch]
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the epoch's numbers."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        numbers["epoch"] = epoch + 1
        numbers["seconds"] = time.monotonic() - self._started
        self.curve.append(numbers)
        write_atomically(self._path, json.dumps(self.curve).encode("ascii"))
        self._say(
            f"epoch {epoch + 1}/{self._epochs}: loss {numbers['loss']:.4f}, calibration loss "
            f"{numbers['val_loss']:.4f}, AUC {numbers['val_auc']:.4f}, {numbers['seconds']:.0f} s"
        )
