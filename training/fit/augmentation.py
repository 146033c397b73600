"""What may be done to a film in training, as a Keras layer, and mixing films in a batch.

Chosen for what differs between hospitals and devices: framing, exposure, sharpness, noise, and
what is burnt into the edges. Nothing here runs outside training. What is at nought by default was
tried and is not in the recipe: `models/EXPERIMENTS.md` says what it gave, or cost.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops, random

from worker.imaging.preprocessing import Pixels

_BENDS = 6  # pieces of a curve of grey levels

Labels = npt.NDArray[np.float32]


@keras.saving.register_keras_serializable("lungwatch")
class Augmentation(layers.Layer):  # type: ignore[misc] # keras has no types
    """Move, expose, blur and mask films at random: (n, h, w, 1) uint8 to the same, float32.

    Grey levels stay within 0 to 255. Every film draws its own changes.
    """

    def __init__(
        self,
        *,
        degrees: float = 0.0,  # rotation, either way
        zoom: float = 0.08,  # of each side by itself, either way: the aspect ratio is not kept
        away: float = 0.1,  # of a side's logarithm: how much farther off than in screening
        shift: float = 0.03,  # of a side, either way
        gamma: float = 0.4,  # of the exponent's logarithm, either way
        contrast: float = 0.3,  # of the range, either way
        brightness: float = 0.15,  # of the range, either way
        noise: float = 0.03,  # standard deviation at most, of the range
        tone: float = 0.0,  # share of films whose grey levels are bent by a curve of their own
        edge: float = 0.2,  # of a side, how wide a masked strip may be
        framed: float = 0.3,  # share of films with strips of one width on all sides
        frame: float = 0.25,  # of a side, how wide such a strip may be
        seed: int = 0,
        **options: Any,
    ) -> None:
        """Set how far each change may go."""
        super().__init__(**options)
        self.limits = {
            "degrees": degrees,
            "zoom": zoom,
            "away": away,
            "shift": shift,
            "gamma": gamma,
            "contrast": contrast,
            "brightness": brightness,
            "noise": noise,
            "tone": tone,
            "edge": edge,
            "framed": framed,
            "frame": frame,
        }
        self.seed = seed
        self._random = random.SeedGenerator(seed)

    def get_config(self) -> dict[str, Any]:
        """Return what builds this layer again."""
        return {**super().get_config(), **self.limits, "seed": self.seed}

    def call(self, films: Any, *, training: bool = False) -> Any:
        """Change films in training; hand them on unchanged otherwise."""
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
        """Draw one value for each film, (n, 1, 1, 1), up to a limit either way."""
        value = self._draw(films, -self.limits[limit], self.limits[limit])
        return ops.reshape(value, (-1, 1, 1, 1))

    def _some(self, films: Any, share: str) -> Any:
        """Draw for each film whether it is of the share, (n, 1, 1, 1)."""
        return ops.reshape(self._draw(films, 0, 1) < self.limits[share], (-1, 1, 1, 1))

    def _move(self, films: Any) -> Any:
        """Mirror, rotate, stretch and shift, in one resampling."""
        _, height, width, _ = films.shape
        limits = self.limits
        angle = self._draw(films, -1, 1) * (limits["degrees"] * np.pi / 180)
        # What was smaller in training is read better: Touvron et al. 2019, *Fixing the train-test
        # resolution discrepancy*.
        near, far = limits["away"] - limits["zoom"], limits["away"] + limits["zoom"]
        stretch = ops.exp(self._draw(films, near, far, columns=2))
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
        """Blur, or sharpen, by up to half of what a 3 x 3 mean takes away, and add grain."""
        blurred = ops.average_pool(films, 3, strides=1, padding="same")
        films = films + (blurred - films) * ops.reshape(self._draw(films, -0.5, 1.0), (-1, 1, 1, 1))
        grain = random.normal(ops.shape(films), seed=self._random)
        return films + grain * ops.abs(self._about(films, "noise"))

    def _expose(self, films: Any) -> Any:
        gamma = ops.exp(self._about(films, "gamma"))
        films = ops.power(ops.clip(films, 1e-3, 1.0), gamma)
        contrast = 1.0 + self._about(films, "contrast")
        films = (films - 0.5) * contrast + 0.5 + self._about(films, "brightness")
        films = ops.clip(films, 0.0, 1.0)
        return self._bend(films) if self.limits["tone"] else films

    def _bend(self, films: Any) -> Any:
        """Bend the grey levels of some films: they rise as before, by other steps.

        As devices do that show bone, lung and air by curves of their own.
        """
        slopes = self._draw(films, 0.25, 1.25, columns=_BENDS)
        slopes = slopes / ops.sum(slopes, axis=1, keepdims=True)
        bent = ops.zeros_like(films)
        for part in range(_BENDS):
            rise = ops.clip(films * _BENDS - part, 0.0, 1.0)
            bent = bent + rise * ops.reshape(slopes[:, part : part + 1], (-1, 1, 1, 1))
        return ops.where(self._some(films, "tone"), bent, films)

    def _mask_edges(self, films: Any) -> Any:
        """Cover strips at the edges, where letters and collimator borders are, or all around."""
        _, height, width, _ = films.shape
        widths = ops.maximum(self._draw(films, -1, 1, columns=4), 0.0) * self.limits["edge"]
        top, bottom, left, right = (widths[:, i : i + 1] for i in range(4))
        rows = ops.reshape((ops.arange(height, dtype="float32") + 0.5) / height, (1, -1))
        columns = ops.reshape((ops.arange(width, dtype="float32") + 0.5) / width, (1, -1))
        inside_rows = ops.logical_and(rows >= top, rows <= 1 - bottom)
        inside_columns = ops.logical_and(columns >= left, columns <= 1 - right)
        inside = ops.logical_and(inside_rows[:, :, None, None], inside_columns[:, None, :, None])
        fill = ops.reshape(self._draw(films, 0, 1), (-1, 1, 1, 1))
        films = ops.where(inside, films, fill)
        return self._frame(films) if self.limits["framed"] else films

    def _frame(self, films: Any) -> Any:
        """Cover strips of one width on all sides of some films, mostly with black."""
        _, height, width, _ = films.shape
        widths = ops.reshape(self._draw(films, 0, 1) * self.limits["frame"], (-1, 1, 1, 1))
        down = ops.reshape((ops.arange(height, dtype="float32") + 0.5) / height, (1, -1, 1, 1))
        across = ops.reshape((ops.arange(width, dtype="float32") + 0.5) / width, (1, 1, -1, 1))
        to_edge = ops.minimum(ops.minimum(down, 1 - down), ops.minimum(across, 1 - across))
        grey = ops.maximum(self._draw(films, -1.5, 1), 0.0)
        covered = ops.logical_and(to_edge < widths, self._some(films, "framed"))
        return ops.where(covered, ops.reshape(grey, (-1, 1, 1, 1)), films)


def cut_and_mix(
    films: Pixels, labels: Labels, generator: np.random.Generator
) -> tuple[Pixels, Labels]:
    """Paste a rectangle of another film of the batch into each, and mix their labels by area.

    CutMix, Yun et al. 2019; one rectangle for the whole batch.

    Args:
        films: (n, height, width) uint8; left as they are.
        labels: (n,) float32, 0 to 1.
        generator: draws the rectangle and the partners.
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
