"""Callbacks of a fit: its numbers, its best weights, its end, and its scratch folder.

    scratch/curve.json          the numbers of each epoch
    scratch/best.npz            the averaged weights of the best epoch on the calibration side
    scratch/epoch-N.weights.h5  the state after N whole epochs, including the optimizer's
    scratch/epoch.json          the valid N, and why the run ended, if it did

Each is written by one rename, in this order, and states of earlier epochs are removed last. So
after a kill at any moment the state named in `epoch.json` is complete, and the run continues from
it with identical results.
"""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from training.console import Say
from training.fit.batches import InOrder, Shuffled
from training.fit.calibration import CalibrationFilms
from training.fit.tensorboard import EventFile
from training.io import needed
from worker.errors import DataError
from worker.system.files import write_atomically
from worker.system.progress import Bar

Clock = Callable[[], float]

ALL_EPOCHS = "all epochs done"
NO_BETTER = "no better on the calibration side"
OUT_OF_TIME = "out of time"


class NonFiniteLossError(DataError):
    """The loss of a step is not finite. The message names the step."""


class Scratch:
    """A folder with the state that a killed run continues from."""

    def __init__(self, folder: Path) -> None:
        """Set the folder and create it."""
        self._folder = folder
        with self._needed():
            folder.mkdir(parents=True, exist_ok=True)
        self._curve = folder / "curve.json"
        self._best = folder / "best.npz"
        self._state = folder / "epoch.json"
        self._aside = folder / "aside.weights.h5"

    def keep_curve(self, curve: list[dict[str, float]]) -> None:
        """Store the numbers so far."""
        with self._needed():
            write_atomically(self._curve, json.dumps(curve).encode("ascii"))

    def keep_best(self, weights: list[Any], robust: float, epoch: int) -> None:
        """Store the best weights so far."""
        buffer = io.BytesIO()
        np.savez(buffer, *weights, robust=robust, epoch=epoch)
        with self._needed():
            write_atomically(self._best, buffer.getvalue())

    def keep_epoch(self, trainee: keras.Model, epoch: int, ended: str | None) -> None:
        """Store the state after `epoch` epochs."""
        weights = self._weights_of(epoch)
        state = json.dumps({"epoch": epoch, "ended": ended})
        with self._needed():
            trainee.save_weights(self._aside)
            with self._aside.open("rb") as file:
                os.fsync(file.fileno())
            self._aside.replace(weights)
            write_atomically(self._state, state.encode("ascii"))  # this fsyncs the folder too
            for other in self._folder.glob(self._weights_of("*").name):
                if other != weights:
                    other.unlink()

    def take_up(self, trainee: keras.Model) -> tuple[int, str | None]:
        """Load a killed run's state into a model.

        Returns:
            The number of complete epochs, and why the run ended, if it did; a run that was out of
            time continues. State that cannot be read counts as none.
        """
        try:
            state = json.loads(self._state.read_bytes())
            epoch, ended = int(state["epoch"]), state["ended"]
            ended = None if ended == OUT_OF_TIME else ended
            if self.best() is None:
                return 0, None
            before = trainee.get_weights()
            try:
                trainee.optimizer.build(trainee.trainable_variables)
                trainee.load_weights(self._weights_of(epoch))
            except (OSError, ValueError, KeyError):
                trainee.set_weights(before)
                return 0, None
        except (OSError, ValueError, KeyError, TypeError):
            return 0, None
        return epoch, ended

    def _weights_of(self, epoch: int | str) -> Path:
        return self._folder / f"epoch-{epoch}.weights.h5"

    def _needed(self) -> AbstractContextManager[None]:
        return needed("the state of a fit cannot be stored", self._folder)

    def best(self) -> tuple[list[Any], float, int] | None:
        """Return the best weights, their robust AUC and their epoch, or None."""
        try:
            with np.load(io.BytesIO(self._best.read_bytes()), allow_pickle=False) as kept:
                weights = [kept[f"arr_{number}"] for number in range(len(kept.files) - 2)]
                return weights, float(kept["robust"]), int(kept["epoch"])
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None

    def curve(self, epochs: int) -> list[dict[str, float]]:
        """Return the numbers of the first `epochs` epochs, as far as they were stored."""
        try:
            kept = json.loads(self._curve.read_bytes())
            return [numbers for numbers in kept if numbers["epoch"] <= epochs]
        except (OSError, ValueError, KeyError, TypeError):
            return []


class StopNonFinite(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Raise at the first step whose loss is not finite."""

    def __init__(self, progress: Bar) -> None:
        """Show the steps on a progress bar too."""
        super().__init__()
        self._epoch = 0
        self._progress = progress

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the epoch."""
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the running mean of the loss; one step that is not finite spoils it."""
        loss = float((logs or {}).get("loss", math.nan))
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss} at step {batch + 1} of epoch {self._epoch + 1}"
            )
        self._progress.advance(1)


class _TakeWeights(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Copy the weights that predict. Must come before SwapEMAWeights, which swaps them back."""

    def __init__(self) -> None:
        """Start without a copy."""
        super().__init__()
        self.taken: list[Any] = []

    def on_predict_end(self, logs: Any = None) -> None:
        """Copy the averaged weights before they are swapped back."""
        del logs
        self.taken = self.model.get_weights()


class Keeper(keras.callbacks.Callback):  # type: ignore[misc] # keras has no types
    """Record each epoch, keep the best one, and end the run in time. Must come last."""

    def __init__(
        self,
        scratch: Scratch,
        batches: Shuffled,
        calibration: CalibrationFilms,
        *,
        done: int,
        epochs: int,
        patience: int,
        seed: int,
        label_smoothing: float,
        stop_at: float,
        clock: Clock,
        say: Say,
        events: EventFile | None,
    ) -> None:
        """Continue after `done` epochs; end when `clock`, in seconds, reaches `stop_at`."""
        super().__init__()
        self.curve = scratch.curve(done)
        self.ended = ALL_EPOCHS
        kept = scratch.best()
        self.best_robust, self.best_epoch = kept[1:] if kept and done else (-math.inf, 0)
        self._scratch, self._batches, self._calibration = scratch, batches, calibration
        self._label_smoothing = label_smoothing
        self._epochs, self._patience, self._seed = epochs, patience, seed
        self._stop_at, self._clock, self._say, self._events = stop_at, clock, say, events
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Shuffle, reseed the random layers, and start the epoch's clock."""
        del logs
        self._batches.turn_to(epoch)
        _reseed(self.model, self._seed, epoch)
        self._started = self._clock()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """End within an epoch if time is up; the calibration side is still evaluated."""
        del batch, logs
        if self._clock() >= self._stop_at:
            self._end(OUT_OF_TIME)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Record the epoch's numbers, keep the best, and decide whether to continue."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        weights, found = self._look()
        numbers |= found
        numbers |= {"epoch": epoch + 1, "seconds": self._clock() - self._started}
        self.curve.append(numbers)
        self._scratch.keep_curve(self.curve)
        if numbers["val_robust"] >= self.best_robust:  # if equal, the later one
            self.best_robust, self.best_epoch = numbers["val_robust"], epoch + 1
            self._scratch.keep_best(weights, self.best_robust, self.best_epoch)
        elif epoch + 1 - self.best_epoch >= self._patience and self.ended != OUT_OF_TIME:
            self._end(NO_BETTER)
        last = self.model.stop_training or epoch + 1 == self._epochs
        self._scratch.keep_epoch(self.model, epoch + 1, self.ended if last else None)
        if self._events is not None:
            now = time.time()
            self._events.add(epoch + 1, numbers, now=now)
        self._say(f"epoch {epoch + 1}/{self._epochs}: {_in_words(numbers)}")

    def _look(self) -> tuple[list[Any], dict[str, float]]:
        """Return the averaged weights, and their numbers on the calibration side."""
        take = _TakeWeights()
        logits = self.model.predict(
            InOrder(self._calibration.examples),
            callbacks=[take, keras.callbacks.SwapEMAWeights()],
            verbose=0,
        )
        found = self._calibration.numbers(logits[:, 0], label_smoothing=self._label_smoothing)
        return take.taken, found

    def _end(self, why: str) -> None:
        self.ended = why
        self.model.stop_training = True


def _in_words(numbers: Mapping[str, float]) -> str:
    """Return an epoch's numbers as text."""
    parts = [f"loss {numbers['loss']:.4f}, calibration loss {numbers['val_loss']:.4f}"]
    parts.append(f"AUC {numbers['val_auc']:.4f}")
    parts += [
        f"{way} {numbers[f'val_{way}']:.4f}"
        for way in ("swapped", "zoomed", "robust")
        if "val_swapped" in numbers
    ]
    return ", ".join([*parts, f"{numbers['seconds']:.0f} s"])


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Make augmentation and dropout of an epoch depend on seed and epoch only.

    Keras does not save the state of its random layers, so a continued run would differ.
    """
    generator = np.random.default_rng((seed, epoch, 1))
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            state = generator.integers(0, 2**31, size=variable.shape)
            variable.assign(state.astype(variable.dtype))
