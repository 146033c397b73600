"""Batches of films for a network, read from the mapped cache, so memory does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from training.data.reframing import cumulative_histogram, tone_curve
from training.fit.augmentation import Labels, cut_and_mix
from worker.errors import DataError
from worker.imaging.preprocessing import Pixels

Rows = npt.NDArray[np.intp]
# With more than one worker Keras reads ahead in its own threads and tells tf.data not to. The
# thread of tf.data delayed the next epoch by more than a second at the end of every third one.
_AHEAD: dict[str, int] = {"workers": 2, "max_queue_size": 4}
Drawn = tuple[Pixels, Labels]  # (n, height, width, 1), (n, 1)
_LEAST_OTHER = 0.5  # least share of the other film's histogram in a film's new one
NEEDS_BOTH = "films of both classes are needed to train and to calibrate"


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Films and their labels, for a network."""

    pixels: Pixels  # (m, height, width) uint8, memory-mapped; m may be more than n
    rows: Rows  # (n,) of `pixels`
    labels: Labels  # (n,) float32, 1 for PNEUMONIA

    def __len__(self) -> int:
        """Return the number of films."""
        return len(self.rows)

    def films(self) -> Iterator[Pixels]:
        """Yield the films one by one, (height, width) uint8, in order."""
        return (self.pixels[row] for row in self.rows)


def balance(labels: Labels) -> Labels:
    """Return a weight for each film, (n,) float32, that gives both classes equal weight.

    Raises:
        DataError: a class is missing.
    """
    positive = float((labels > 0.5).mean()) if len(labels) else 0.0
    if not 0 < positive < 1:
        raise DataError(NEEDS_BOTH)
    weights = np.where(labels > 0.5, 0.5 / positive, 0.5 / (1 - positive))
    return weights.astype(np.float32)


class InOrder(keras.utils.PyDataset):  # type: ignore[misc] # keras has no types
    """All films in order, unchanged, to predict."""

    def __init__(self, examples: Examples, *, batch: int = 256) -> None:
        """Split into batches of `batch` films."""
        super().__init__(**_AHEAD)
        self._examples = examples
        self._batch = batch

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(len(self._examples) / self._batch)

    def __getitem__(self, position: int) -> tuple[Pixels]:
        """Return a batch, (n, height, width, 1)."""
        here = slice(position * self._batch, (position + 1) * self._batch)
        return (self._examples.pixels[self._examples.rows[here]][..., np.newaxis],)


class OtherHistograms:
    """Gives films the grey levels of films of the other class, so that these do not show the class.

    A film's new histogram is that of a random film of the other class, mixed with its own by up to
    a half.
    """

    def __init__(self, examples: Examples) -> None:
        """Measure each film once: 1 KB a film."""
        histograms = [cumulative_histogram(film).astype(np.float32) for film in examples.films()]
        self._histograms = np.stack(histograms)
        self._positive = examples.labels > 0.5
        self._classes = np.flatnonzero(~self._positive), np.flatnonzero(self._positive)

    def give(
        self, films: Pixels, chosen: Rows, generator: np.random.Generator, *, share: float
    ) -> Pixels:
        """Return films, (n, height, width) uint8, of which a share has new grey levels.

        Args:
            films: a batch; not changed.
            chosen: (n,) their positions among the examples.
            generator: draws the films, the donors and the shares.
            share: of the films.
        """
        count = len(films)
        turned = generator.uniform(size=count) < share
        donors = generator.uniform(size=count)
        weights = generator.uniform(_LEAST_OTHER, 1.0, size=count)
        changed = films.copy()
        for place in np.flatnonzero(turned):
            others = self._classes[int(not self._positive[chosen[place]])]
            other = self._histograms[others[int(donors[place] * len(others))]].astype(np.float64)
            own = self._histograms[chosen[place]].astype(np.float64)
            wanted = weights[place] * other + (1 - weights[place]) * own
            changed[place] = np.take(tone_curve(own, wanted), films[place])
        return changed


class Shuffled(keras.utils.PyDataset):  # type: ignore[misc] # keras has no types
    """Shuffled batches, determined by seed, epoch and position.

    Half of an epoch's films are NORMAL and half PNEUMONIA, and an epoch has as many films as the
    data. Of the larger class some films are left out, others each epoch; films of the smaller class
    are repeated.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        batch: int,
        seed: int,
        mixed_share: float = 0.0,
        toned_share: float = 0.0,
        epoch: int = 0,
    ) -> None:
        """Split into batches of `batch` films.

        Args:
            examples: the films.
            batch: films in a batch.
            seed: of all random draws.
            mixed_share: share of batches that are cut and mixed.
            toned_share: share of films that get the histogram of a film of the other class.
            epoch: the first one.

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
        self._toned_share = toned_share
        self._histograms = OtherHistograms(examples) if toned_share else None
        self.turn_to(epoch)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(len(self._examples) / self._batch)

    def __getitem__(self, position: int) -> Drawn:
        """Return a batch of the present epoch."""
        chosen = self._order[position * self._batch : (position + 1) * self._batch]
        generator = np.random.default_rng((self._seed, self._epoch, position))
        pixels = self._examples.pixels[self._examples.rows[chosen]]
        labels = self._examples.labels[chosen]
        if self._histograms is not None:
            pixels = self._histograms.give(pixels, chosen, generator, share=self._toned_share)
        if generator.uniform() < self._mixed_share:
            pixels, labels = cut_and_mix(pixels, labels, generator)
        return pixels[..., np.newaxis], labels[:, np.newaxis]

    def turn_to(self, epoch: int) -> None:
        """Draw and shuffle the films of an epoch."""
        self._epoch = epoch
        generator = np.random.default_rng((self._seed, epoch))
        count = len(self._examples)
        halves = count // 2, count - count // 2
        drawn = [
            np.resize(generator.permutation(films), half)
            for films, half in zip(self._classes, halves, strict=True)
        ]
        self._order = generator.permutation(np.concatenate(drawn))
