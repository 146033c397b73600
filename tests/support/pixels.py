"""Films as model packages are given them."""

from __future__ import annotations

from worker.imaging.preprocessing import PREPROCESSING_VERSION, Pixels, PreparedFilm, read_film
from worker.model.manifest import Manifest


def read_for(manifest: Manifest, data: bytes) -> PreparedFilm:
    """Read a film at the size and by the preprocessing version that a package names."""
    return read_film(
        data,
        height=manifest.height,
        width=manifest.width,
        version=manifest.preprocessing_version,
    )


def pixels_of(data: bytes, *, height: int, width: int) -> Pixels:
    """Return a film's pixels as a new package would be given them, (height, width) uint8."""
    return read_film(data, height=height, width=width, version=PREPROCESSING_VERSION).pixels
