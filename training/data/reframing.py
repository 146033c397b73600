"""Changes framing and grey levels of a film to those of the other class, for tests and training.

Films of the two classes differ in framing and grey levels, which are no signs of disease.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.imaging.preprocessing import Pixels

Shares = npt.NDArray[np.float64]  # (256,) of each grey level, cumulative, ends at 1

_LEVELS = 256
_ROUNDING = 1e-9  # of the shares, so that equal sums compare as equal


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The share of each side that a central crop keeps."""

    height: float = 1.0
    width: float = 1.0

    def of(self, film: Pixels) -> Pixels:
        """Return the middle of a film, (height, width) uint8, as a view."""
        height, width = film.shape
        top = round(height * (1 - self.height) / 2)
        left = round(width * (1 - self.width) / 2)
        return film[top : height - top, left : width - left]


def cumulative_histogram(film: Pixels) -> Shares:
    """Return the share of a film's pixels at or below each grey level."""
    shares: Shares = np.cumsum(np.bincount(film.ravel(), minlength=_LEVELS)) / film.size
    return shares


def tone_curve(own: Shares, wanted: Shares) -> npt.NDArray[np.uint8]:
    """Return the table, (256,), that gives a film of one histogram another one.

    Histogram matching (Gonzalez and Woods, *Digital Image Processing*): the table never falls, so
    darker stays darker.

    >>> film = np.array([[0, 10], [20, 30]], np.uint8)
    >>> darker = np.array([[0, 5], [10, 15]], np.uint8)
    >>> tone_curve(cumulative_histogram(film), cumulative_histogram(darker))[film].tolist()
    [[0, 5], [10, 15]]
    """
    return np.searchsorted(wanted, own - _ROUNDING).clip(0, _LEVELS - 1).astype(np.uint8)


def toned(film: Pixels, wanted: Shares) -> Pixels:
    """Return a film, (height, width) uint8, with another cumulative histogram of grey levels."""
    return tone_curve(cumulative_histogram(film), wanted)[film]
