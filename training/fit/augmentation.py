"""Augmentation of films in training, as a Keras layer, and mixing of films in a batch.

Chosen for differences between hospitals and devices: framing, exposure, sharpness, noise, and text
at the edges. It runs in training only. `models/EXPERIMENTS.md` lists what else was tried, with
results.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops, random

from worker.imaging.preprocessing import Pixels

Labels = npt.NDArray[np.float32]


@keras.saving.register_keras_serializable("lungwatch")
class Augmentation(layers.Layer):  # type: ignore[misc] # keras has no types
    """Move, expose, blur and mask films at random: (n, h, w, 1) uint8 to float32.

    Grey levels stay within 0 to 255. Every film draws its own changes.
    """

    def __init__(
        self,
        *,
        degrees: float = 8.0,  # rotation, in either direction
        closer: float = 0.2,  # of both sides' logarithm, at most
        farther: float = 0.1,  # likewise: films look smaller than in screening
        stretch: float = 0.28,  # of each side's logarithm separately, either way
        shift: float = 0.08,  # of a side, either way
        gamma: float = 0.4,  # of the exponent's logarithm, either way
        contrast: float = 0.3,  # of the range, either way
        brightness: float = 0.15,  # of the range, either way
        noise: float = 0.03,  # standard deviation at most, of the range
        edge: float = 0.1,  # largest width of a masked strip, of a side
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Set the limit of each change."""
        super().__init__(**options)
        self.limits = {
            "degrees": degrees,
            "closer": closer,
            "farther": farther,
            "stretch": stretch,
            "shift": shift,
            "gamma": gamma,
            "contrast": contrast,
            "brightness": brightness,
            "noise": noise,
            "edge": edge,
        }
        self.seed = seed
        self._random = random.SeedGenerator(seed)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments to build this layer again."""
        return {**super().get_config(), **self.limits, "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Augmentation:
        """Build the layer again, without options of earlier releases only."""
        gone = {"zoom", "away", "tone", "framed", "frame"}
        return cls(**{name: value for name, value in config.items() if name not in gone})

    def call(self, films: Any, *, training: bool = False) -> Any:
        """Change films in training; otherwise return them unchanged."""
        films = ops.cast(films, "float32")
        if not training:
            return films
        films = self._move(films) / 255.0
        films = self._sharpness(films)
        films = self._expose(films)
        return self._mask_edges(films) * 255.0

    def _draw(self, films: Any, low: float, high: float, *, columns: int = 1) -> Any:
        shape = (ops.shape(films)[0], columns)
        return random.uniform(shape, low, high, seed=self._random)

    def _about(self, films: Any, limit: str) -> Any:
        """Draw one value for each film, (n, 1, 1, 1), between minus and plus a limit."""
        value = self._draw(films, -self.limits[limit], self.limits[limit])
        return ops.reshape(value, (-1, 1, 1, 1))

    def _move(self, films: Any) -> Any:
        """Mirror, rotate, stretch and shift, in one resampling."""
        _, height, width, _ = films.shape
        limits = self.limits
        angle = self._draw(films, -1, 1) * (limits["degrees"] * np.pi / 180)
        # Objects smaller in training than in use are recognised better: Touvron et al. 2019,
        # *Fixing the train-test resolution discrepancy*. Each side separately, because the aspect
        # ratio reveals the class: wider films are more often PNEUMONIA, and squashed by the resize.
        size = self._draw(films, -limits["closer"], limits["farther"])
        each = self._draw(films, -limits["stretch"], limits["stretch"], columns=2)
        stretch = ops.exp(size + each)
        mirror = ops.sign(self._draw(films, -1, 1))
        shift = self._draw(films, -limits["shift"], limits["shift"], columns=2)
        a, b = ops.cos(angle) * stretch[:, :1] * mirror, -ops.sin(angle) * stretch[:, :1]
        c, d = ops.sin(angle) * stretch[:, 1:] * mirror, ops.cos(angle) * stretch[:, 1:]
        # About the film's centre: output (x, y) is taken from input (a x + b y + e, c x + d y + f).
        x, y = (width - 1) / 2, (height - 1) / 2
        e = x - a * x - b * y + shift[:, :1] * width
        f = y - c * x - d * y + shift[:, 1:] * height
        zero = ops.zeros_like(a)
        transform = ops.concatenate([a, b, e, c, d, f, zero, zero], axis=1)
        return ops.image.affine_transform(films, transform, interpolation="bilinear")

    def _sharpness(self, films: Any) -> Any:
        """Blur, or sharpen by up to half of what a 3 x 3 mean removes, and add grain."""
        blurred = ops.average_pool(films, 3, strides=1, padding="same")
        films = films + (blurred - films) * ops.reshape(self._draw(films, -0.5, 1.0), (-1, 1, 1, 1))
        grain = random.normal(ops.shape(films), seed=self._random)
        return films + grain * ops.abs(self._about(films, "noise"))

    def _expose(self, films: Any) -> Any:
        gamma = ops.exp(self._about(films, "gamma"))
        films = ops.power(ops.clip(films, 1e-3, 1.0), gamma)
        contrast = 1.0 + self._about(films, "contrast")
        films = (films - 0.5) * contrast + 0.5 + self._about(films, "brightness")
        return ops.clip(films, 0.0, 1.0)

    def _mask_edges(self, films: Any) -> Any:
        """Cover strips at the edges, where letters and collimator borders are."""
        _, height, width, _ = films.shape
        widths = ops.maximum(self._draw(films, -1, 1, columns=4), 0.0) * self.limits["edge"]
        top, bottom, left, right = (widths[:, i : i + 1] for i in range(4))
        rows = ops.reshape((ops.arange(height, dtype="float32") + 0.5) / height, (1, -1))
        columns = ops.reshape((ops.arange(width, dtype="float32") + 0.5) / width, (1, -1))
        inside_rows = ops.logical_and(rows >= top, rows <= 1 - bottom)
        inside_columns = ops.logical_and(columns >= left, columns <= 1 - right)
        inside = ops.logical_and(inside_rows[:, :, None, None], inside_columns[:, None, :, None])
        fill = ops.reshape(self._draw(films, 0, 1), (-1, 1, 1, 1))
        return ops.where(inside, films, fill)


def cut_and_mix(
    films: Pixels, labels: Labels, generator: np.random.Generator
) -> tuple[Pixels, Labels]:
    """Paste a rectangle of another film of the batch into each, and mix their labels by area.

    CutMix, Yun et al. 2019; one rectangle for the whole batch.

    Args:
        films: (n, height, width) uint8; not changed.
        labels: (n,) float32, 0 to 1.
        generator: for the rectangle and the partners.
    """
    count, height, width = films.shape
    partner = generator.permutation(count)
    side = np.sqrt(generator.uniform(0.0, 0.5))  # of the rectangle, as a share of the film's
    top = int(generator.uniform(0, 1 - side) * height)
    left = int(generator.uniform(0, 1 - side) * width)
    bottom, right = top + int(side * height), left + int(side * width)
    mixed = films.copy()
    mixed[:, top:bottom, left:right] = films[partner, top:bottom, left:right]
    share = np.float32((bottom - top) * (right - left) / (height * width))
    return mixed, labels * (1 - share) + labels[partner] * share
