"""One training run: fits a network to decoded films.

It uses only Keras, so that another backend can train. The same seed on the same machine gives the
same weights. A killed run with the same scratch folder continues from its last complete epoch.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import keras

from training.console import Say
from training.fit.batches import Examples, Shuffled
from training.fit.calibration import CalibrationFilms
from training.fit.checkpoints import (
    Clock,
    Keeper,
    NonFiniteLossError,
    Scratch,
    StopNonFinite,
)
from training.fit.memory import KeepFreedMemory
from training.fit.tensorboard import event_file
from worker.system.progress import bar

__all__ = ["Examples", "FitLimits", "Fitted", "NonFiniteLossError", "Recipe", "fit"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The hyperparameters. They are stored in the manifest."""

    epochs: int = 40  # at most
    patience: int = 15  # epochs without a robust AUC as good as the best until it ends
    seed: int = 20
    batch: int = 32  # films in a step
    learning_rate: float = 1.5e-3  # at its peak, after a short rise and before a cosine to zero
    weight_decay: float = 0.02  # of kernels; AdamW, Loshchilov and Hutter 2019
    label_smoothing: float = 0.05
    mixed_share: float = 0.5  # share of batches that are cut and mixed
    toned_share: float = 0.7  # share of films with the histogram of a film of the other class

    @classmethod
    def starting(cls, *, from_weights: bool, epochs: int | None, seed: int) -> Recipe:
        """Return the recipe for new weights, or a gentler, shorter one for given weights."""
        if from_weights:
            return cls(epochs=epochs or 12, patience=6, learning_rate=4e-4, seed=seed)
        return cls(epochs=epochs or cls.epochs, seed=seed)


@dataclass(frozen=True, kw_only=True)
class FitLimits:
    """Limits of a run, and where to log. They only decide when it ends."""

    stop_at: float = math.inf  # seconds of `clock`
    clock: Clock = field(default=time.monotonic)
    tensorboard: Path | None = None  # a folder for event files


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The result of a run."""

    curve: list[dict[str, float]]  # each epoch: loss, seconds, and `CalibrationFilms.numbers`
    epoch: int  # of the network's weights: the best on the calibration side
    ended: str  # why it ended


def fit(
    network: keras.Model,
    train: Examples,
    calibration: CalibrationFilms,
    recipe: Recipe,
    *,
    scratch: Path,
    say: Say,
    limits: FitLimits | None = None,
) -> Fitted:
    """Fit the network in place, and leave it with the averaged weights of its best epoch.

    Args:
        network: from `network.build_network`, with the weights to start from.
        train: the training films; an epoch has equally many of each class.
        calibration: evaluated once an epoch, with the averaged weights. The epoch with the best
            robust AUC is taken, and a run without a better one for long ends.
        recipe: the hyperparameters.
        scratch: a folder for the state after each epoch, for a killed run to continue.
        say: called with one line an epoch.
        limits: of time; None for no limits.

    Raises:
        NonFiniteLossError: naming the epoch and step.
        DataError: a side lacks a class, or the scratch folder or an event file cannot be written.
    """
    limits = limits or FitLimits()
    batches = Shuffled(
        train,
        batch=recipe.batch,
        seed=recipe.seed,
        mixed_share=recipe.mixed_share,
        toned_share=recipe.toned_share,
    )
    trainee = _compiled(network, recipe, steps_per_epoch=len(batches))
    state = Scratch(scratch)
    done, ended = state.take_up(trainee)
    steps = recipe.epochs * len(batches)
    with event_file(limits.tensorboard) as events:
        keeper = Keeper(
            state,
            batches,
            calibration,
            done=done,
            epochs=recipe.epochs,
            patience=recipe.patience,
            seed=recipe.seed,
            label_smoothing=recipe.label_smoothing,
            stop_at=limits.stop_at,
            clock=limits.clock,
            say=say,
            events=events,
        )
        if ended is None:
            with bar("fitting", steps, done=done * len(batches)) as progress:
                trainee.fit(
                    batches,
                    epochs=recipe.epochs,
                    initial_epoch=done,
                    shuffle=False,  # `batches` shuffles, by its seed
                    callbacks=[KeepFreedMemory(), StopNonFinite(progress), keeper],
                    verbose=0,
                )
            ended = keeper.ended
    best_epoch = state.best()
    if best_epoch is None:
        raise NonFiniteLossError("no epoch had a finite robust AUC")
    best_weights, _, number = best_epoch
    trainee.set_weights(best_weights)
    return Fitted(curve=keeper.curve, epoch=number, ended=ended)


def _compiled(network: keras.Model, recipe: Recipe, *, steps_per_epoch: int) -> keras.Model:
    """Return the model to fit: from film to logit, sharing the network's weights."""
    trainee = keras.Model(network.input, network.output["logit"], name="trainee")
    trainee.compile(
        optimizer=_optimizer(recipe, steps_per_epoch=steps_per_epoch),
        loss=keras.losses.BinaryCrossentropy(
            from_logits=True, label_smoothing=recipe.label_smoothing
        ),
        # TensorFlow's XLA cannot compile the image warp; other backends must be asked to compile.
        jit_compile=keras.backend.backend() != "tensorflow",
    )
    return trainee


def _optimizer(recipe: Recipe, *, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    steps = recipe.epochs * steps_per_epoch
    rise = min(2 * steps_per_epoch, steps // 5)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / 20,
        warmup_target=recipe.learning_rate,
        warmup_steps=rise,
        decay_steps=max(1, steps - rise),
    )
    # The average covers a fortieth of the run: smooth, but independent of the start.
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
