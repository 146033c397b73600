"""Films decoded once, kept between nights in one array file. Harmless to delete.

    <cache>/films-v<preprocessing>-<height>x<width>-<digest>.npy    pixels, (n, height, width) uint8
    <cache>/films-v<preprocessing>-<height>x<width>-<digest>.json   SHA-256 -> row, or refusal code

The JSON is written last, so an array without one is the remains of a killed run and is swept.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from training.dataset import LabelledScan
from worker.errors import FilmRefused
from worker.files import write_atomically
from worker.preprocessing import PREPROCESSING_VERSION, Pixels, read_film

_POOL_FROM = 500  # fewer films than this are decoded sooner than a pool starts


@dataclass(frozen=True, kw_only=True)
class Films:
    """Decoded films, by content."""

    pixels: Pixels  # (n, height, width) uint8, memory-mapped
    rows: dict[str, int]  # SHA-256 -> row of `pixels`
    refused: dict[str, str]  # SHA-256 -> refusal code of a film that cannot be read

    def select(self, scans: Iterable[LabelledScan]) -> Pixels:
        """Return the pixels of these scans, (n, height, width) uint8, in their order."""
        rows = [self.rows[scan.sha256] for scan in scans]
        return np.ascontiguousarray(self.pixels[rows])


def decode_films(scans: Sequence[LabelledScan], cache: Path, *, height: int, width: int) -> Films:
    """Return every scan's pixels, decoding only those that the cache does not hold.

    A film that `read_film` refuses is noted with its code, and left to the caller.
    """
    cache.mkdir(parents=True, exist_ok=True)
    prefix = f"films-v{PREPROCESSING_VERSION}-{height}x{width}-"
    wanted = {scan.sha256: scan.path for scan in scans}
    name = prefix + hashlib.sha256("".join(sorted(wanted)).encode("ascii")).hexdigest()[:16]
    if (kept := _open(cache / f"{name}.json")) is not None:
        return kept
    earlier = _earlier(cache, prefix)
    missing = [digest for digest in wanted if not _holds(earlier, digest)]
    fresh = dict(zip(missing, _decode([wanted[d] for d in missing], height, width), strict=True))
    rows: dict[str, int] = {}
    refused: dict[str, str] = {}
    aside = cache / f".{name}.{os.getpid()}.npy"
    pixels = np.lib.format.open_memmap(
        aside, mode="w+", dtype=np.uint8, shape=(len(wanted), height, width)
    )
    for digest in sorted(wanted):
        film = fresh[digest] if digest in fresh else _take(earlier, digest)
        if isinstance(film, str):
            refused[digest] = film
        else:
            pixels[len(rows)] = film
            rows[digest] = len(rows)
    pixels.flush()
    del pixels
    aside.replace(cache / f"{name}.npy")
    index = json.dumps({"rows": rows, "refused": refused})
    write_atomically(cache / f"{name}.json", index.encode("ascii"))
    _sweep(cache, prefix, keep=name)
    kept = _open(cache / f"{name}.json")
    if kept is None:
        raise OSError(f"the film cache {cache / name} cannot be read back")
    return kept


def _decode(paths: Sequence[Path], height: int, width: int) -> list[Pixels | str]:
    read = partial(_read, height=height, width=width)
    if len(paths) < _POOL_FROM:
        return [read(path) for path in paths]
    # Spawned, because a fork of a process that has loaded TensorFlow may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        return list(pool.map(read, paths, chunksize=64))


def _read(path: Path, *, height: int, width: int) -> Pixels | str:
    try:
        return read_film(path.read_bytes(), height=height, width=width).pixels
    except FilmRefused as refusal:
        return str(refusal.code)


def _open(index: Path) -> Films | None:
    try:
        facts = json.loads(index.read_bytes())
        pixels = np.load(index.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)
        films = Films(pixels=pixels, rows=facts["rows"], refused=facts["refused"])
    except (OSError, ValueError, KeyError):
        return None  # absent or damaged: decode again
    return films if len(films.rows) <= len(pixels) else None


def _earlier(cache: Path, prefix: str) -> Films | None:
    opened = [films for path in cache.glob(f"{prefix}*.json") if (films := _open(path))]
    return max(opened, key=lambda films: len(films.rows), default=None)


def _holds(films: Films | None, digest: str) -> bool:
    return films is not None and (digest in films.rows or digest in films.refused)


def _take(films: Films | None, digest: str) -> Pixels | str:
    if films is None:
        raise KeyError(digest)
    return films.refused.get(digest) or films.pixels[films.rows[digest]]


def _sweep(cache: Path, prefix: str, *, keep: str) -> None:
    for path in [*cache.glob(f"{prefix}*"), *cache.glob(f".{prefix}*.npy")]:
        if path.stem != keep:
            path.unlink(missing_ok=True)
