"""Test films with the framing and grey levels of the other class, as found on the train side.

The crop follows from each class's median aspect ratio, the grey levels from a film of the other
class. Framing and grey levels, which are not disease, then point to the wrong class. Nothing here
scores a film.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np

from training.data.native_sizes import Sizes
from training.data.reframing import Crop, cumulative_histogram, toned
from training.data.sources import CLASSES
from training.data.splits import LabelledScan
from worker.errors import DataError
from worker.imaging.drawing import as_jpeg
from worker.imaging.preprocessing import (
    PREPROCESSING_VERSION,
    TURNED,
    FilmLimits,
    Pixels,
    check_header,
    read_film,
)
from worker.model.manifest import NEGATIVE, POSITIVE

QUALITY = 95  # of the JPEGs
ZOOM = Crop(height=0.8, width=0.8)
_ALIKE = 0.99  # ratio of aspect ratios from which a crop makes no difference


class Kind(StrEnum):
    """A change of a film."""

    CONFLICT = "conflict"  # the framing of the other class
    TONED = "toned"  # the grey levels of a film of the other class
    SWAPPED = "swapped"  # both
    ZOOMED = "zoomed"  # cropped by a fifth of each side; independent of the other class


@dataclass(frozen=True, kw_only=True)
class Framing:
    """The crop that gives films of each class the framing of the other."""

    crops: Mapping[str, Crop]  # by label
    left_out: str = ""  # why framing is not swapped and films stay whole; else ""

    @classmethod
    def fixed(cls, *, normal_height: float, pneumonia_width: float) -> Self:
        """Return the framing that keeps these shares of a side of each class."""
        return cls(
            crops={NEGATIVE: Crop(height=normal_height), POSITIVE: Crop(width=pneumonia_width)}
        )

    @classmethod
    def whole(cls, why: str) -> Self:
        """Return the framing that crops nothing, with the reason."""
        return cls(crops=dict.fromkeys(CLASSES, Crop()), left_out=why)

    @classmethod
    def between(cls, aspects: Mapping[str, Sequence[float]]) -> Self:
        """Return the framing that gives each class the median aspect ratio of the other.

        Args:
            aspects: by label, width / height of each film of known size.

        >>> framing = Framing.between({"NORMAL": [1.2], "PNEUMONIA": [1.5]})
        >>> {label: (crop.height, crop.width) for label, crop in framing.crops.items()}
        {'NORMAL': (0.8, 1.0), 'PNEUMONIA': (1.0, 0.8)}
        """
        if not all(aspects.get(label) for label in CLASSES):
            return cls.whole("the films' sizes are not known")
        medians = {label: float(np.median(aspects[label])) for label in CLASSES}
        narrow, wide = sorted(CLASSES, key=medians.__getitem__)
        kept = round(medians[narrow] / medians[wide], 6)
        if not kept <= _ALIKE:
            return cls.whole("both classes have the same median aspect ratio")
        return cls(crops={narrow: Crop(height=kept), wide: Crop(width=kept)})


def framing_of(scans: Sequence[LabelledScan], sizes: Sizes) -> Framing:
    """Return the framing found on the train side, by native sizes.

    Args:
        scans: of the train side.
        sizes: by SHA-256, of films of known size.
    """
    return Framing.between(
        {
            label: [
                sizes[scan.sha256].aspect_ratio
                for scan in scans
                if scan.label == label and scan.sha256 in sizes
            ]
            for label in CLASSES
        }
    )


@dataclass(frozen=True, kw_only=True)
class Reframing:
    """What one film takes from the other class."""

    crop: Crop
    donor: LabelledScan  # the film whose grey levels it gets


def plan_reframings(
    films: Sequence[LabelledScan],
    donors: Sequence[LabelledScan],
    framing: Framing,
    *,
    seed: int = 0,
) -> list[Reframing]:
    """Draw for each film a film of the other class, in the order of the films.

    Args:
        films: to change.
        donors: films of the train side, of both classes.
        framing: the crop of each class.
        seed: the same films, donors and seed give the same draw, in any order.

    Raises:
        DataError: a film has no donor.
    """
    drawn: dict[int, Reframing] = {}
    for label in CLASSES:
        generator = np.random.default_rng([seed, label == POSITIVE])
        others = sorted((one for one in donors if one.label != label), key=_name)
        rows = [row for row, film in enumerate(films) if film.label == label]
        if rows and not others:
            raise DataError(f"the train side has no film to tone {label} films by")
        for row in sorted(rows, key=lambda row: films[row].name):
            donor = others[generator.integers(len(others))]
            drawn[row] = Reframing(crop=framing.crops[label], donor=donor)
    return [drawn[row] for row in range(len(films))]


def _name(scan: LabelledScan) -> str:
    return scan.name


def reframe(grey: Pixels, donor: Pixels, crop: Crop) -> dict[Kind, bytes]:
    """Return a film changed in each way, as JPEGs.

    Args:
        grey: the film at its own size, (height, width) uint8.
        donor: a film of the other class at its own size, (height, width) uint8.
        crop: the framing of the other class.
    """
    tone = toned(grey, cumulative_histogram(donor))
    changed = {
        Kind.CONFLICT: crop.of(grey),
        Kind.TONED: tone,
        Kind.SWAPPED: crop.of(tone),
        Kind.ZOOMED: ZOOM.of(grey),
    }
    return {kind: as_jpeg(pixels, quality=QUALITY) for kind, pixels in changed.items()}


def decode_grey(film: bytes) -> Pixels:
    """Return a film at its own size, upright, (height, width) uint8.

    Raises:
        FilmRefused: it cannot be read.
    """
    header = check_header(film, FilmLimits())
    height, width = header.height, header.width
    if header.orientation in TURNED:
        height, width = width, height
    return read_film(film, height=height, width=width, version=PREPROCESSING_VERSION).pixels
