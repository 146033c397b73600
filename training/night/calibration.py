"""Reads films in three ways from their files: as they are, swapped, and zoomed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.dataset import LabelledScan
from training.evaluate.head_to_head import is_positive
from training.evaluate.reframed import (
    Framing,
    Kind,
    Reframing,
    decode_grey,
    plan_reframings,
    reframe,
)
from training.fit.batches import Examples
from training.fit.calibration import CalibrationFilms
from training.io import needed, read_again
from worker.errors import FilmRefused
from worker.imaging.preprocessing import (
    PREPROCESSING_VERSION,
    FilmLimits,
    Pixels,
    read_film,
)

_WAYS = (Kind.SWAPPED, Kind.ZOOMED)
# A crop of a readable film is not refused for its size or contrast.
_ANY_SIZE = FilmLimits(min_side_pixels=1, min_contrast=0.0)


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads changed films as the worker does."""

    height: int  # of the result, pixels
    width: int

    def changed(self, task: tuple[LabelledScan, Reframing, Pixels]) -> list[Pixels]:
        """Return a film swapped and zoomed, each (height, width) uint8.

        A film that cannot be changed is returned as it is.
        """
        scan, reframing, as_it_is = task
        try:
            grey, donor = (_decode(one) for one in (scan, reframing.donor))
            made = reframe(grey, donor, reframing.crop)
            return [
                read_film(
                    made[kind],
                    height=self.height,
                    width=self.width,
                    version=PREPROCESSING_VERSION,
                    limits=_ANY_SIZE,
                ).pixels
                for kind in _WAYS
            ]
        except FilmRefused:
            return [as_it_is] * len(_WAYS)


def _decode(scan: LabelledScan) -> Pixels:
    return decode_grey(read_again(scan.path, scan.sha256))


def read_calibration_films(
    scans: Sequence[LabelledScan],
    donors: Sequence[LabelledScan],
    as_they_are: Sequence[Pixels],
    framing: Framing,
    *,
    seed: int,
    place: Path,
) -> CalibrationFilms:
    """Read films in three ways into a mapped file.

    Args:
        scans: the films, for example of the calibration side.
        donors: the train side, for the grey levels.
        as_they_are: the films' pixels, (height, width) uint8 each, in the order of `scans`.
        framing: the crop of each class.
        seed: of the draw of donors.
        place: of the file.

    Raises:
        DataError: a film cannot be read, was replaced, or the file cannot be written.
    """
    height, width = as_they_are[0].shape
    reframings = plan_reframings(scans, donors, framing, seed=seed)
    reader = _Reader(height=height, width=width)
    tasks = zip(scans, reframings, as_they_are, strict=True)
    with (
        needed("films in three ways cannot be stored", place),
        place.open("wb") as file,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        for film, changed in zip(as_they_are, pool.map(reader.changed, tasks), strict=True):
            for one in (film, *changed):
                file.write(one.tobytes())
    ways = 1 + len(_WAYS)
    rows = np.arange(ways * len(scans), dtype=np.intp).reshape(-1, ways).T.ravel()
    labels = np.tile(is_positive(scans).astype(np.float32), ways)
    shape = (len(rows), height, width)
    pixels = np.memmap(place, dtype=np.uint8, mode="r", shape=shape)
    return CalibrationFilms(examples=Examples(pixels=pixels, rows=rows, labels=labels), ways=ways)
