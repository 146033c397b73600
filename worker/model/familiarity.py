"""Strangeness: one number for how unlike the training films a picture is.

It combines three distances: of the network's features, of the picture's layout (a grid of mean
grey levels), and of that layout relative to the nearest of its copies that are upside down, on a
side or inverted. Each is divided by its 99th percentile over the training films. Strangeness is
their root mean square, divided by its own 99th percentile: in every version, one training film in a
hundred has a strangeness above 1.

Chest films of other patients, for example adults, differ less. They are recognised by two things
together: the distances of features and layout, and how far the layout lies in the direction of such
patients' layouts. This can raise the strangeness above the review limit, but never to the refuse
limit, because they are chest films.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from worker.errors import ModelPackageError
from worker.imaging.preprocessing import Pixels

FAMILIAR: Final = "familiar.npz"
GRID: Final = 8  # cells of a layout, per side
_LEAST = 1e-6  # avoids a division by zero

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution of training films: Mahalanobis distance by a whitening matrix."""

    middle: Floats  # (n,), the mean
    whitening: Floats  # (n, n): W such that W' W is the inverse of the covariance

    def distances(self, points: Floats) -> Floats:
        """Return the (m,) distances of (m, n) points, root mean square over the n directions."""
        white = (points - self.middle) @ self.whitening.T
        distances: Floats = np.sqrt(np.mean(white**2, axis=1))
        return distances


@dataclass(frozen=True, kw_only=True)
class OtherPatients:
    """Parameters that recognise chest films of other patients, for example adults."""

    direction: Floats  # (cells,) from layouts of training films to those of other patients
    weight: float  # of the root mean square of the scaled distances of features and layout
    offset: float  # subtracted, so that most training films are at 0 or below
    most: float  # largest strangeness: above the review limit, below the refuse limit

    def strangeness(self, layout: Floats, scaled: Floats) -> Floats:
        """Return (m,) strangeness of (m, cells) layouts and their (m, 3) scaled distances."""
        amount = layout @ self.direction + self.weight * _away(scaled) - self.offset
        strangeness: Floats = np.minimum(amount, self.most)
        return strangeness


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """Parameters of strangeness, from a package's training films."""

    features: Spread
    layout: Spread
    scales: Floats  # (4,): of the distances of features, layout and turn, and of their combination
    others: OtherPatients | None = None  # None in packages made before this was measured

    def strangeness(self, pixels: Pixels, features: Features) -> float:
        """Return how unlike the training films one picture is.

        Args:
            pixels: (height, width) uint8, as `preprocessing.read_film` makes them; each side 8 or
                more.
            features: (channels,), pooled by the network from these pixels.

        Returns:
            0 or more, or NaN if the features are not finite; `judge` raises on NaN.
        """
        return float(self.of(layouts(pixels[np.newaxis]), directions(features[np.newaxis]))[0])

    def of(self, layout: Floats, direction: Floats) -> Floats:
        """Return (m,) strangeness of (m, cells) layouts and (m, channels) feature directions."""
        scaled = self.distances(layout, direction) / self.scales[:3]
        strangeness: Floats = np.sqrt(np.mean(scaled**2, axis=1)) / self.scales[3]
        if self.others is not None:
            strangeness = np.maximum(strangeness, self.others.strangeness(layout, scaled))
        return strangeness

    def away(self, layout: Floats, direction: Floats) -> Floats:
        """Return (m,) root mean square of the features' and the layout's scaled distance."""
        return _away(self.distances(layout, direction) / self.scales[:3])

    def distances(self, layout: Floats, direction: Floats) -> Floats:
        """Return (m, 3) unscaled distances: features, layout, turn."""
        ways = np.concatenate([layout, *turned(layout)])
        upright, *others = self.layout.distances(ways).reshape(-1, len(layout))
        turn = upright / np.maximum(np.minimum.reduce(others), _LEAST)
        return np.stack([self.features.distances(direction), upright, turn], axis=1)

    def to_bytes(self) -> bytes:
        """Return the parameters as an array file; equal parameters give equal bytes."""
        arrays = {"scales": self.scales.astype(np.float32)}
        for name in ("features", "layout"):
            for part in fields(Spread):
                value = getattr(getattr(self, name), part.name)
                arrays[f"{name}_{part.name}"] = value.astype(np.float32)
        if (others := self.others) is not None:
            arrays["others_direction"] = others.direction.astype(np.float32)
            numbers = (others.weight, others.offset, others.most)
            arrays["others_numbers"] = np.array(numbers, dtype=np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type] # stubs; NumPy fixes the dates
        return buffer.getvalue()


def from_bytes(data: bytes) -> Familiar:
    """Read what `to_bytes` wrote.

    Raises:
        ModelPackageError: the file cannot be read, or its arrays do not fit together.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name].astype(np.float64) for name in file.files}
        spreads = {
            name: Spread(middle=arrays[f"{name}_middle"], whitening=arrays[f"{name}_whitening"])
            for name in ("features", "layout")
        }
        familiar = Familiar(scales=arrays["scales"], others=_others(arrays), **spreads)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelPackageError(f"{FAMILIAR} cannot be read: {error}") from error
    sizes = [one.middle.size for one in spreads.values()]
    shapes = [one.whitening.shape for one in spreads.values()]
    whole = shapes == [(size, size) for size in sizes] and sizes[1] == GRID * GRID
    if familiar.others is not None:
        whole = whole and familiar.others.direction.shape == (GRID * GRID,)
    if not (whole and familiar.scales.shape == (4,) and np.all(familiar.scales > 0)):
        raise ModelPackageError(f"{FAMILIAR} cannot be read: its arrays do not fit together")
    return familiar


def _others(arrays: Mapping[str, Floats]) -> OtherPatients | None:
    if "others_direction" not in arrays:
        return None
    weight, offset, most = arrays["others_numbers"].tolist()
    direction = arrays["others_direction"]
    return OtherPatients(direction=direction, weight=weight, offset=offset, most=most)


def _away(scaled: Floats) -> Floats:
    away: Floats = np.sqrt(np.mean(scaled[:, :2] ** 2, axis=1))
    return away


def layouts(pixels: Pixels) -> Floats:
    """Return the layouts of (m, height, width) uint8 pictures: (m, 64), each mean 0, deviation 1.

    A cell is the mean grey level of 1/8 by 1/8 of the picture.
    """
    _, height, width = pixels.shape
    rows, columns = _eighths(height), _eighths(width)
    # Matrix products take a third of the time of sums, and are exact for integers below 2**24.
    sums = (rows @ pixels.astype(np.float32) @ columns.T).astype(np.float64)
    cells = (sums / np.outer(rows.sum(axis=1), columns.sum(axis=1))).reshape(len(pixels), -1)
    cells -= cells.mean(axis=1, keepdims=True)
    # As in the network: the 1, in grey levels squared, keeps a uniform picture at 0.
    standard: Floats = cells / np.sqrt(np.mean(cells**2, axis=1, keepdims=True) + 1.0)
    return standard


@cache
def _eighths(side: int) -> npt.NDArray[np.float32]:
    """Return (8, side): row i is 1 where a pixel belongs to the i-th eighth, else 0."""
    first = np.arange(GRID) * side // GRID
    return np.repeat(np.eye(GRID, dtype=np.float32), np.diff(first, append=side), axis=1)


def mirrored(layout: Floats) -> Floats:
    """Return (m, 64) layouts mirrored left to right."""
    return layout.reshape(-1, GRID, GRID)[:, :, ::-1].reshape(len(layout), -1)


def turned(layout: Floats) -> tuple[Floats, ...]:
    """Return (m, 64) layouts turned upside down, on either side, and inverted in grey."""
    grids = layout.reshape(-1, GRID, GRID)
    ways = (grids[:, ::-1], np.rot90(grids, 1, (1, 2)), np.rot90(grids, -1, (1, 2)), -grids)
    return tuple(way.reshape(len(layout), -1) for way in ways)


def directions(features: Features) -> Floats:
    """Return (m, channels) features scaled to length 1: their direction without magnitude."""
    vectors = features.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, _LEAST)
    return unit
