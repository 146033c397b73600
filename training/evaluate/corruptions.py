"""Disturbances of films that may happen on the way to the inbox, applied on purpose.

Each is applied to the decoded grey film at its own size, which is then saved as a JPEG. Pure: from
pixels and a generator to pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from worker.imaging.drawing import as_jpeg, blur, turn, write_into
from worker.imaging.preprocessing import Pixels, resize

_QUALITY = 95  # of the JPEG, unless it is the disturbance
_SIDE = 512.0  # pixels; blur and text scale with the film from this side

Floats = npt.NDArray[np.floating]
Disturbance = Callable[[Pixels, np.random.Generator], Pixels]


def disturb(name: str, grey: Pixels, seed: int) -> bytes:
    """Return a film, (height, width) uint8, disturbed and saved as JPEG; reproducible by seed."""
    disturbance, quality = DISTURBANCES[name]
    changed = disturbance(grey, np.random.default_rng(seed))
    return as_jpeg(changed, quality=quality)


def _brightness(share: float) -> Disturbance:
    return lambda grey, _: _levels(grey * (1 + share))


def _contrast(share: float) -> Disturbance:
    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        middle = grey.mean(dtype=np.float64)
        return _levels(middle + (grey - middle) * (1 + share))

    return change


def _gamma(power: float) -> Disturbance:
    table = _levels(255 * (np.arange(256) / 255) ** power)
    return lambda grey, _: table[grey]


def _as_it_is(grey: Pixels, _: np.random.Generator) -> Pixels:
    return grey


def _blur(grey: Pixels, _: np.random.Generator) -> Pixels:
    radius = 1.5 * min(grey.shape) / _SIDE
    return blur(grey, radius)


def _noise(grey: Pixels, generator: np.random.Generator) -> Pixels:
    return _levels(grey + generator.normal(0, 10, grey.shape))


def _rotation(degrees: float) -> Disturbance:
    return lambda grey, _: turn(grey, degrees)


def _shift(grey: Pixels, generator: np.random.Generator) -> Pixels:
    height, width = grey.shape
    down, right = generator.choice([-1, 1], size=2) * np.rint([0.05 * height, 0.05 * width])
    moved = np.zeros_like(grey)
    rows, from_rows = _overlap(height, int(down))
    columns, from_columns = _overlap(width, int(right))
    moved[rows, columns] = grey[from_rows, from_columns]
    return moved


def _overlap(side: int, by: int) -> tuple[slice, slice]:
    """Return the slices to and from which pixels move."""
    return slice(max(by, 0), side + min(by, 0)), slice(max(-by, 0), side - max(by, 0))


def _crop(grey: Pixels, generator: np.random.Generator) -> Pixels:
    height, width = (round(0.9 * side) for side in grey.shape)
    top = int(generator.integers(0, grey.shape[0] - height + 1))
    left = int(generator.integers(0, grey.shape[1] - width + 1))
    return np.ascontiguousarray(grey[top : top + height, left : left + width])


def _mask_border(share: float) -> Disturbance:
    def change(grey: Pixels, _: np.random.Generator) -> Pixels:
        top, left = (round(share * side) for side in grey.shape)
        masked = np.zeros_like(grey)
        inside = (slice(top, grey.shape[0] - top), slice(left, grey.shape[1] - left))
        masked[inside] = grey[inside]
        return masked

    return change


def _text(grey: Pixels, generator: np.random.Generator) -> Pixels:
    height, width = grey.shape
    size = max(8.0, 40 * min(height, width) / _SIDE)
    words = str(generator.choice(["R PORTABLE", "L  AP ERECT", "R 14:32"]))
    place = (float(generator.uniform(0.03, 0.5)) * width, float(generator.uniform(0.02, 0.1)))
    return write_into(grey, words, left=place[0], top=place[1] * height, size=size)


def _resample(grey: Pixels, _: np.random.Generator) -> Pixels:
    height, width = (max(1, side // 2) for side in grey.shape)
    return resize(grey, height=height, width=width)


def _levels(values: Floats) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# In the order of the model card: name -> disturbance and JPEG quality.
DISTURBANCES: dict[str, tuple[Disturbance, int]] = {
    "brightness +20 %": (_brightness(0.2), _QUALITY),
    "brightness -20 %": (_brightness(-0.2), _QUALITY),
    "contrast +20 %": (_contrast(0.2), _QUALITY),
    "contrast -20 %": (_contrast(-0.2), _QUALITY),
    "gamma 0.7": (_gamma(0.7), _QUALITY),
    "gamma 1.4": (_gamma(1.4), _QUALITY),
    "JPEG quality 30": (_as_it_is, 30),
    "blur, 1.5 pixels of 512": (_blur, _QUALITY),
    "noise, 10 grey levels": (_noise, _QUALITY),
    "turned 5 degrees left": (_rotation(5), _QUALITY),
    "turned 5 degrees right": (_rotation(-5), _QUALITY),
    "shifted by 5 %": (_shift, _QUALITY),
    "cropped by 10 %": (_crop, _QUALITY),
    "border masked, 10 % on each side": (_mask_border(0.1), _QUALITY),
    "border masked, 20 % on each side": (_mask_border(0.2), _QUALITY),
    "text drawn in": (_text, _QUALITY),
    "resampled by half": (_resample, _QUALITY),
}
