"""Bytes to pixels: limits, strict decode, orientation, resize. The only way to pixels.

Training and serving both come through `read_film`, so that what a model learnt from and what it
is asked about are made alike. Change anything that moves a pixel and `PREPROCESSING_VERSION`
must change with it; a test holds the two together.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from worker.errors import FilmRefused, RefusalCode
from worker.imaging.jpeg import HUFFMAN_FRAMES, Header, parse_header

PREPROCESSING_VERSION = "1"

Pixels = npt.NDArray[np.uint8]

# EXIF orientation -> what turns the stored picture upright (CIPA DC-008, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = {5, 6, 7, 8}  # orientations of pictures that are stored lying on their side


@dataclass(frozen=True, kw_only=True)
class FilmLimits:
    """What a film may measure. Beyond these it is refused, and the refusal names the limit."""

    max_bytes: int = 64 * 1024 * 1024
    max_pixels: int = 50_000_000
    min_side_pixels: int = 96
    max_jpeg_scans: int = 100
    min_contrast: float = 5.0  # standard deviation in grey levels, after the resize


@dataclass(frozen=True, kw_only=True)
class PreparedFilm:
    """A film ready for the network, and what was measured on the way."""

    pixels: Pixels  # (height, width) uint8, 0 black
    width: int  # of the stored picture, before orientation
    height: int
    contrast: float  # standard deviation of `pixels`, grey levels
    encoding: str  # what wrote the file: see `worker.imaging.jpeg.parse_header`


def read_film(
    data: bytes, *, height: int, width: int, limits: FilmLimits | None = None
) -> PreparedFilm:
    """Turn a JPEG's bytes into the pixels a network sees.

    Args:
        data: the whole file.
        height: of the result, in pixels.
        width: of the result, in pixels; the aspect ratio is not kept.
        limits: what the film may measure; the defaults where none are given.

    Returns:
        The film: `pixels` is (height, width) uint8, upright by its EXIF orientation.

    Raises:
        FilmRefused: with the code, the measured value and the limit. Nothing that was
            recoverably damaged gets through: decoding is strict.
    """
    limits = limits or FilmLimits()
    header = check_header(data, limits)
    upright = _upright(decode(data, header), header.orientation)
    pixels = resize(upright, height=height, width=width)
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
    """Have the libraries load what they load when it is first needed.

    A process that may open no file afterwards reads films all the same, whole or damaged.
    """
    slope = np.broadcast_to(
        np.arange(256, dtype=np.uint8)[:, np.newaxis, np.newaxis], (256, 256, 1)
    )
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(slope), colorspace="GRAY")
    read_film(data, height=128, width=128)
    for turn in _UPRIGHT:
        _upright(np.zeros((2, 3), np.uint8), turn)
    with suppress(FilmRefused):
        read_film(data[: len(data) // 2] + data[-2:], height=128, width=128)


def check_header(data: bytes, limits: FilmLimits) -> Header:
    """Refuse what can be refused before decoding, and return the header of what cannot.

    Raises:
        FilmRefused: empty, too large, not a JPEG, truncated, of unsupported colour, depth or
            coding, too small, of too many progressive scans, or with a hole.
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
            "The file ends before its picture does: it has no end-of-image marker.",
        )
    if header.hole_at is not None:
        raise FilmRefused(
            RefusalCode.DAMAGED,
            f"The picture's data has a hole: from byte {header.hole_at:,} on it is zeros.",
            measured=header.hole_at,
        )
    return header


def too_many_bytes(size_bytes: int, limits: FilmLimits) -> FilmRefused:
    """Word the refusal of a file of `size_bytes`, here and before it is read at all."""
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


def decode(data: bytes, header: Header) -> Pixels:
    """Decode to grey, strictly: a warning of the decoder is an error here.

    Returns:
        (height, width) uint8; for colour JPEGs the luma of ITU-R BT.601 as JPEG stores it.

    Raises:
        FilmRefused: damaged, with the decoder's own words.
    """
    try:
        grey: Pixels = simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True)[..., 0]
    except ValueError as error:
        if "nsufficient memory" in str(error):  # libjpeg's own words
            raise MemoryError from error
        raise FilmRefused(
            RefusalCode.DAMAGED, f"The picture's data is corrupt: {_plain(error)}."
        ) from error
    if grey.shape != (header.height, header.width):
        raise FilmRefused(
            RefusalCode.DAMAGED,
            f"The picture decodes to {grey.shape[1]} x {grey.shape[0]}, but its header says "
            f"{header.width} x {header.height}.",
            measured=f"{grey.shape[1]} x {grey.shape[0]}",
            limit=f"{header.width} x {header.height}",
        )
    return grey


def _plain(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


def _upright(grey: Pixels, orientation: int) -> Pixels:
    turn = _UPRIGHT.get(orientation)
    return grey if turn is None else np.asarray(Image.fromarray(grey).transpose(turn))


def resize(grey: Pixels, *, height: int, width: int) -> Pixels:
    """Resize (h, w) uint8 to (height, width) uint8 with Pillow's antialiased bilinear filter.

    The aspect ratio is not kept. Pillow's filter widens its support when shrinking, so a
    full-size film and a smaller copy of it come out nearly alike.
    """
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR))
