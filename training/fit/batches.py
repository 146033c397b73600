"""Films for a network, read in batches from the mapped cache: memory does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from training.fit.augmentation import Labels, cut_and_mix
from worker.errors import DataError
from worker.imaging.preprocessing import Pixels

Rows = npt.NDArray[np.intp]
# Keras reads ahead in threads of its own if it is given more than one, and tells tf.data not to,
# whose thread, at the end of every third epoch, kept the next one waiting for more than a second.
_AHEAD: dict[str, int] = {"workers": 2, "max_queue_size": 4}
Drawn = tuple[Pixels, Labels]  # (n, height, width, 1), (n, 1)
Batch = tuple[Pixels, Labels, Labels]  # the same, and weights (n,)
NEEDS_BOTH = "films of both classes are needed to train and to calibrate"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Films and their labels, for a network."""

    pixels: Pixels  # (m, height, width) uint8, memory-mapped; m may be more than n
    rows: Rows  # (n,) of `pixels`
    labels: Labels  # (n,) float32, 1 for PNEUMONIA

    def __len__(self) -> int:
        """Return how many films there are."""
        return len(self.rows)

    def films(self) -> Iterator[Pixels]:
        """Yield the films one by one, (height, width) uint8, in their order."""
        return (self.pixels[row] for row in self.rows)


def balance(labels: Labels) -> Labels:
    """Return a weight for each film, (n,) float32, that makes both classes weigh the same.

    Raises:
        DataError: a class is missing.
    """
    positive = float((labels > 0.5).mean()) if len(labels) else 0.0
    if not 0 < positive < 1:
        raise DataError(NEEDS_BOTH)
    weights = np.where(labels > 0.5, 0.5 / positive, 0.5 / (1 - positive))
    return weights.astype(np.float32)


class InOrder(keras.utils.PyDataset):  # type: ignore[misc] # keras has no types
    """All films in their order, as they are."""

    def __init__(self, examples: Examples, *, batch: int = 256) -> None:
        """Cut into batches of so many films."""
        super().__init__(**_AHEAD)
        self._examples = examples
        self._batch = batch
        self._weights = balance(examples.labels)

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._examples) / self._batch)

    def __getitem__(self, position: int) -> Batch:
        """Return a batch."""
        here = slice(position * self._batch, (position + 1) * self._batch)
        pixels = self._examples.pixels[self._examples.rows[here]]
        labels, weights = self._examples.labels[here], self._weights[here]
        return pixels[..., np.newaxis], labels[:, np.newaxis], weights


class Shuffled(keras.utils.PyDataset):  # type: ignore[misc] # keras has no types
    """Shuffled batches, each a function of seed, epoch and position alone.

    Half of an epoch's films are NORMAL and half PNEUMONIA, and it is as long as if each film came
    once: of the larger class some are left out, another part each epoch, and those of the smaller
    come again.
    """

    def __init__(
        self, examples: Examples, *, batch: int, seed: int, mixed_share: float, epoch: int = 0
    ) -> None:
        """Cut into batches of so many films; a share of the batches is cut and mixed.

        Raises:
            DataError: a class is missing.
        """
        super().__init__(**_AHEAD)
        self._examples = examples
        self._batch = batch
        self._seed = seed
        self._mixed_share = mixed_share
        positive = examples.labels > 0.5
        self._classes = np.flatnonzero(~positive), np.flatnonzero(positive)
        if not all(map(len, self._classes)):
            raise DataError(NEEDS_BOTH)
        self.turn_to(epoch)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self._examples) / self._batch)

    def __getitem__(self, position: int) -> Drawn:
        """Return a batch of the epoch turned to."""
        chosen = self._order[position * self._batch : (position + 1) * self._batch]
        generator = np.random.default_rng((self._seed, self._epoch, position))
        pixels = self._examples.pixels[self._examples.rows[chosen]]
        labels = self._examples.labels[chosen]
        if generator.uniform() < self._mixed_share:
            pixels, labels = cut_and_mix(pixels, labels, generator)
        return pixels[..., np.newaxis], labels[:, np.newaxis]

    def turn_to(self, epoch: int) -> None:
        """Draw and shuffle for an epoch."""
        self._epoch = epoch
        generator = np.random.default_rng((self._seed, epoch))
        count = len(self._examples)
        halves = count // 2, count - count // 2
        drawn = [
            np.resize(generator.permutation(films), half)
            for films, half in zip(self._classes, halves, strict=True)
        ]
        self._order = generator.permutation(np.concatenate(drawn))
