"""Bytes to pixels: limits, strict decoding, orientation, resize.

Training and serving both call `read_film`, so that a model sees the same kind of pixels in both. A
model package names the version of preprocessing that it was made for, and gets pixels of that
version as long as it serves:

    1   a film is decoded at full size, then resized
    2   a film of at least four times the network's sides is decoded at reduced scale first

Any change that moves a pixel needs a new version; a test keeps a digest for each.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from worker.errors import FilmRefused, RefusalCode
from worker.imaging.jpeg import HUFFMAN_FRAMES, Header, parse_header

_AT_FULL_SIZE: Final = "1"
PREPROCESSING_VERSION: Final = "2"  # of new packages
PREPROCESSING_VERSIONS: Final = (_AT_FULL_SIZE, PREPROCESSING_VERSION)  # that can be made

_WHOLE = 8  # eighths: the decoder's scale for a full-size picture
_SPARE = 2  # times the network's sides that a picture decoded at reduced scale keeps

Pixels = npt.NDArray[np.uint8]

# EXIF orientation -> the transpose that turns the stored picture upright (CIPA DC-008, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = {5, 6, 7, 8}  # orientations of pictures stored sideways
_RIGHT_TO_LEFT = {2, 3, 6, 7}  # of those whose last stored column or row ends up at the left
_BOTTOM_TO_TOP = {3, 4, 7, 8}  # and at the top


@dataclass(frozen=True, kw_only=True)
class FilmLimits:
    """Limits on a film. A film beyond one is refused, and the refusal names the limit."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side_pixels: int = 96
    max_jpeg_scans: int = 100
    min_contrast: float = 5.0  # standard deviation in grey levels, after the resize


@dataclass(frozen=True, kw_only=True)
class PreparedFilm:
    """A film ready for the network, and its measurements."""

    pixels: Pixels  # (height, width) uint8, 0 black
    width: int  # of the stored picture, before orientation
    height: int
    contrast: float  # standard deviation of `pixels`, grey levels
    encoding: str  # the writer of the file: see `worker.imaging.jpeg.parse_header`


def read_film(
    data: bytes, *, height: int, width: int, version: str, limits: FilmLimits | None = None
) -> PreparedFilm:
    """Turn a JPEG's bytes into the pixels that a network sees.

    Args:
        data: the whole file.
        height: of the result, in pixels.
        width: of the result, in pixels; the aspect ratio is not kept.
        version: of preprocessing, one of `PREPROCESSING_VERSIONS`: a package's manifest names it.
        limits: on the film; None for the defaults.

    Returns:
        The film: `pixels` is (height, width) uint8, upright by its EXIF orientation.

    Raises:
        FilmRefused: with the code, the measured value and the limit. Nothing that was
            recoverably damaged gets through: decoding is strict.
        ValueError: the version is not known.
    """
    if version not in PREPROCESSING_VERSIONS:
        raise ValueError(f"no preprocessing {version}")
    limits = limits or FilmLimits()
    header = check_header(data, limits)
    eighths = scale(header, height=height, width=width, version=version)
    grey = decode(data, header, eighths=eighths)
    upright = _upright(grey, header.orientation)
    pixels = resize(upright, height=height, width=width, box=covered(header, eighths))
    contrast = float(pixels.std())
    if not contrast >= limits.min_contrast:
        raise FilmRefused(
            RefusalCode.BLANK,
            f"The picture is blank: its grey levels spread by {contrast:.1f}, "
            f"under the limit of {limits.min_contrast:g}.",
            measured=round(contrast, 2),
            limit=limits.min_contrast,
        )
    return PreparedFilm(
        pixels=pixels,
        width=header.width,
        height=header.height,
        contrast=contrast,
        encoding=header.encoding,
    )


def warm_up() -> None:
    """Make the libraries load now what they load on first use.

    After this, a process that may not open files can still read films, whole or damaged.
    """
    slope = np.broadcast_to(
        np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis], (256, 256, 1)
    )
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(slope), colorspace="GRAY")
    for version in PREPROCESSING_VERSIONS:
        read_film(data, height=64, width=64, version=version)
    for turn in _UPRIGHT:
        _upright(np.zeros((2, 3), np.uint8), turn)
    with suppress(FilmRefused):
        read_film(
            data[: len(data) // 2] + data[-2:], height=64, width=64, version=PREPROCESSING_VERSION
        )


def check_header(data: bytes, limits: FilmLimits) -> Header:
    """Refuse what can be refused before decoding, and return the header.

    Raises:
        FilmRefused: empty, too large, not a JPEG, truncated, unsupported colour, depth or coding,
            too small, too many progressive scans, or a hole in the data.
    """
    if not data:
        raise FilmRefused(RefusalCode.EMPTY, "The file is empty.", measured=0, limit=1)
    if len(data) > limits.max_bytes:
        raise too_many_bytes(len(data), limits)
    header = parse_header(data)
    _check_kind(header)
    _check_size(header, limits)
    if not header.complete:
        raise FilmRefused(
            RefusalCode.TRUNCATED,
            "The file is cut off: it has no end-of-image marker.",
        )
    if header.hole_at is not None:
        raise FilmRefused(
            RefusalCode.DAMAGED,
            f"The picture's data has a hole: it is zeros from byte {header.hole_at:,} on.",
            measured=header.hole_at,
        )
    return header


def too_many_bytes(size_bytes: int, limits: FilmLimits) -> FilmRefused:
    """Return the refusal of a file of `size_bytes`; also used before the file is read."""
    return FilmRefused(
        RefusalCode.TOO_MANY_BYTES,
        f"The file has {size_bytes:,} bytes, over the limit of {limits.max_bytes:,}.",
        measured=size_bytes,
        limit=limits.max_bytes,
    )


def _check_kind(header: Header) -> None:
    if header.frame_marker not in HUFFMAN_FRAMES:
        raise FilmRefused(
            RefusalCode.UNSUPPORTED_CODING,
            f"The JPEG is coded as frame type 0xFF{header.frame_marker:02X} "
            "(lossless, hierarchical or arithmetic).",
            measured=f"0xFF{header.frame_marker:02X}",
            limit="0xFFC0 to 0xFFC2",
        )
    if header.depth_bits != 8:
        raise FilmRefused(
            RefusalCode.UNSUPPORTED_DEPTH,
            f"The JPEG has {header.depth_bits} bits a sample; only 8 are read.",
            measured=header.depth_bits,
            limit=8,
        )
    if header.components not in (1, 3):
        raise FilmRefused(
            RefusalCode.UNSUPPORTED_COLOUR,
            f"The JPEG has {header.components} colour components; only 1 (grey) and 3 are read.",
            measured=header.components,
            limit="1 or 3",
        )


def _check_size(header: Header, limits: FilmLimits) -> None:
    if min(header.width, header.height) < limits.min_side_pixels:
        raise FilmRefused(
            RefusalCode.TOO_SMALL,
            f"The picture is {header.width} x {header.height}; the shorter side is under the "
            f"limit of {limits.min_side_pixels} pixels.",
            measured=f"{header.width} x {header.height}",
            limit=limits.min_side_pixels,
        )
    if header.width * header.height > limits.max_pixels:
        raise FilmRefused(
            RefusalCode.TOO_MANY_PIXELS,
            f"The picture is {header.width} x {header.height}, "
            f"{header.width * header.height / 1e6:.1f} megapixels, over the limit of "
            f"{limits.max_pixels / 1e6:g}.",
            measured=header.width * header.height,
            limit=limits.max_pixels,
        )
    if header.jpeg_scans > limits.max_jpeg_scans:
        raise FilmRefused(
            RefusalCode.TOO_MANY_SCANS,
            f"The JPEG is made of {header.jpeg_scans:,} scans, over the limit of "
            f"{limits.max_jpeg_scans:,}.",
            measured=header.jpeg_scans,
            limit=limits.max_jpeg_scans,
        )


def scale(header: Header, *, height: int, width: int, version: str) -> int:
    """Return the scale at which a film is decoded, in eighths: 1 to 4, or 8 for full size.

    In version 2 it is the smallest that leaves twice the network's `height` and `width`, in pixels,
    of the upright film. Scales of 5 to 7 eighths would take libjpeg-turbo as long as the whole.
    """
    if version == _AT_FULL_SIZE:
        return _WHOLE
    if header.orientation in TURNED:
        height, width = width, height
    for eighths in range(1, _WHOLE // 2 + 1):
        if (
            header.height * eighths >= _WHOLE * _SPARE * height
            and header.width * eighths >= _WHOLE * _SPARE * width
        ):
            return eighths
    return _WHOLE


def decode(data: bytes, header: Header, *, eighths: int = _WHOLE) -> Pixels:
    """Decode to grey, strictly: a warning of the decoder is an error here.

    A reduced scale leaves out detail in the inverse DCT alone. All of the file's data is still read
    and checked.

    Args:
        data: the whole file.
        header: of the file.
        eighths: the scale, as `scale` gives it.

    Returns:
        (height, width) uint8, each side `eighths` eighths of the stored picture's, rounded up; for
        colour JPEGs the luma of ITU-R BT.601 as JPEG stores it.

    Raises:
        FilmRefused: damaged, with the decoder's message.
    """
    height, width = (-(-side * eighths // _WHOLE) for side in (header.height, header.width))
    reduced = {"min_height": height, "min_width": width} if eighths < _WHOLE else {}
    try:
        grey: Pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True, **reduced)[
            ..., 0
        ]
    except ValueError as error:
        if "nsufficient memory" in str(error):  # libjpeg's message
            raise MemoryError from error
        raise FilmRefused(
            RefusalCode.DAMAGED, f"The picture's data is corrupt: {_plain(error)}."
        ) from error
    if grey.shape != (height, width):
        at = "" if eighths == _WHOLE else f" at {eighths}/{_WHOLE} of its size"
        raise FilmRefused(
            RefusalCode.DAMAGED,
            f"The picture decodes to {grey.shape[1]} x {grey.shape[0]}{at}, but its header says "
            f"{header.width} x {header.height}.",
            measured=f"{grey.shape[1]} x {grey.shape[0]}",
            limit=f"{width} x {height}",
        )
    return grey


def covered(header: Header, eighths: int) -> tuple[float, float, float, float]:
    """Return what the film covers of its decoded upright picture: left, top, right, bottom, pixels.

    That is less than the whole where a side at reduced scale is no whole number: the decoder rounds
    up, and the last pixel holds some of the encoder's padding.
    """
    sides = [header.width * eighths / _WHOLE, header.height * eighths / _WHOLE]
    spare = [-side % 1 for side in sides]
    if header.orientation in TURNED:
        sides.reverse()
        spare.reverse()
    left = spare[0] if header.orientation in _RIGHT_TO_LEFT else 0.0
    top = spare[1] if header.orientation in _BOTTOM_TO_TOP else 0.0
    return left, top, left + sides[0], top + sides[1]


def _plain(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _upright(grey: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return grey if turn is None else np.asarray(Image.fromarray(grey).transpose(turn))


def resize(
    grey: Pixels,
    *,
    height: int,
    width: int,
    box: tuple[float, float, float, float] | None = None,
) -> Pixels:
    """Resize (h, w) uint8 to (height, width) uint8 with Pillow's antialiased bilinear filter.

    The aspect ratio is not kept. Pillow's filter widens its support when shrinking, so a
    full-size film and a smaller copy of it come out nearly alike. A `box` (left, top, right,
    bottom, pixels) is what is resized of the picture; all of it where not given.
    """
    picture = Image.fromarray(grey)
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, box=box))
