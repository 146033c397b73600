"""Finds near copies: the same film saved again, resized, brightened, or slightly cropped.

Two films are near copies if few bits of a perceptual hash differ and their detail correlates. The
hash makes the search fast and the correlation makes it reliable: chests look alike, their details
do not. Among the 5,232 films of the public data (without 28 exact copies), no two correlate by more
than 0.85, and one pair of 13.7 million by more than 0.8. Of 180 full-size originals, every one is
found after JPEG at quality 30, as a copy at 224 x 224, with half or one and a half times the
contrast, and with a gamma of 0.6 or 1.5; 99 % after a rotation of half a degree, half after a crop
of 1 % at each edge. A mirrored or inverted film, or a larger crop, is not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn

from worker.imaging.preprocessing import Pixels

Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]

_SIDE = 64  # pixels of the picture compared
_WINDOW = 9  # pixels; the mean over this neighbourhood is subtracted to leave detail
_WAVES = 24  # of the cosine transform, along each side
_COARSEST = 6  # lower sums of wave numbers show build and position, alike in all chests
_WORDS = 4  # of 64 bits
_ROWS = 1024  # films in memory at a time
_TILE = (16, 8192)  # films compared at a time: fits a core's cache


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """Limits within which two films are near copies."""

    first_bits: int = 12  # of 64 that may differ in a first comparison
    bits: int = 48  # of 256 that may differ
    correlation: float = 0.90  # of detail, at least


def near_copies(
    pixels: Pixels, rows: Sequence[int] | None = None, *, likeness: Likeness | None = None
) -> list[tuple[int, int, float]]:
    """Return the pairs of near copies with the correlation of their detail.

    Time grows with the square of the number of films: 40 seconds for 100,000. Memory grows with the
    number, by 32 bytes a film.

    Args:
        pixels: (n, height, width) uint8, in memory or mapped.
        rows: of `pixels`, the films to compare; None for all.
        likeness: limits; None for the defaults.

    Returns:
        (position in `rows`, later position, correlation), in order.
    """
    limits = likeness or Likeness()
    chosen = np.arange(len(pixels)) if rows is None else np.asarray(rows, dtype=np.intp)
    bits = perceptual_hash(pixels, chosen)
    pairs: list[tuple[int, int, float]] = []
    for one, other in _candidates(bits, limits):
        for start in range(0, len(one), _ROWS):
            firsts, seconds = one[start : start + _ROWS], other[start : start + _ROWS]
            alike = np.einsum(
                "ni,ni->n", _detail(pixels[chosen[firsts]]), _detail(pixels[chosen[seconds]])
            )
            pairs += [
                (int(first), int(second), float(value))
                for first, second, value in zip(firsts, seconds, alike, strict=True)
                if value >= limits.correlation
            ]
    return sorted(pairs)


def perceptual_hash(pixels: Pixels, rows: Indices) -> Bits:
    """Return 256 bits for each film, (n, 4) uint64: the signs of medium frequencies."""
    one, other = np.mgrid[0:_WAVES, 0:_WAVES]
    middle = np.flatnonzero((one + other).ravel() >= _COARSEST)
    order = np.argsort((one + other).ravel()[middle], kind="stable")
    chosen = middle[order][: 64 * _WORDS]
    bits = np.empty((len(rows), _WORDS), dtype=np.uint64)
    for start in range(0, len(rows), _ROWS):
        small = _small(pixels[rows[start : start + _ROWS]])
        waves = dctn(small, axes=(1, 2))[:, :_WAVES, :_WAVES].reshape(len(small), -1)[:, chosen]
        packed = np.packbits(waves > 0, axis=1)
        bits[start : start + _ROWS] = np.ascontiguousarray(packed).view(np.uint64)
    return bits


def _candidates(bits: Bits, limits: Likeness) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of rows, the smaller first, whose hashes are close."""
    first = np.ascontiguousarray(bits[:, 0])
    tall, wide = _TILE
    for top in range(0, len(first), tall):
        for left in range(top - top % wide, len(first), wide):
            differ = np.bitwise_count(
                first[top : top + tall, np.newaxis] ^ first[np.newaxis, left : left + wide]
            )
            one, other = np.nonzero(differ <= limits.first_bits)
            one, other = one + top, other + left
            one, other = one[one < other], other[one < other]
            whole = np.bitwise_count(bits[one] ^ bits[other]).sum(axis=1)
            close = whole <= limits.bits
            if close.any():
                yield one[close], other[close]


def _detail(pixels: Pixels) -> Floats:
    """Return the detail of films, (n, 4096) float32: pixels less their neighbourhood, length 1."""
    small = _small(pixels)
    blur = _window()
    detail = (small - blur @ small @ blur.T).reshape(len(small), -1)
    detail -= detail.mean(axis=1, keepdims=True)
    length = np.linalg.norm(detail, axis=1, keepdims=True)
    result: Floats = detail / np.maximum(length, 1e-6)
    return result


def _small(pixels: Pixels) -> Floats:
    """Resize to 64 x 64 by the mean over areas, (n, 64, 64) float32."""
    _, height, width = pixels.shape
    down, across = _areas(height), _areas(width)
    result: Floats = down @ pixels.astype(np.float32) @ across.T
    return result


def _areas(count: int) -> Floats:
    """Return the share of each of `count` pixels in each of 64 cells, (64, count) float32."""
    edges = np.linspace(0, count, _SIDE + 1)[:, np.newaxis]
    places = np.arange(count)[np.newaxis, :]
    overlap = np.minimum(edges[1:], places + 1) - np.maximum(edges[:-1], places)
    shares = np.maximum(overlap, 0)
    result: Floats = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return result


def _window() -> Floats:
    """Return the matrix of the mean over neighbours, (64, 64) float32."""
    away = np.abs(np.arange(_SIDE)[:, np.newaxis] - np.arange(_SIDE)[np.newaxis, :])
    near = (away <= _WINDOW // 2).astype(np.float32)
    result: Floats = near / near.sum(axis=1, keepdims=True)
    return result
