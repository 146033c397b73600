"""Pictures that are made: pages to draw on, films altered for tests, and their PNGs and JPEGs.

The pixels a network sees come from `worker.imaging.preprocessing` alone.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from worker.imaging.preprocessing import Pixels

Colour = tuple[int, int, int]  # red, green, blue
Floats = npt.NDArray[np.float32]


class Page:
    """A colour page to draw on. Positions are in pixels from the upper left corner."""

    def __init__(self, width: int, height: int, paper: Colour) -> None:
        """Make an empty page."""
        self._picture = Image.new("RGB", (width, height), paper)
        self._pen = ImageDraw.Draw(self._picture)

    def paste(self, pixels: Pixels, *, left: int, top: int) -> None:
        """Paste pixels: (height, width) grey, or (height, width, 3)."""
        self._picture.paste(Image.fromarray(pixels), (left, top))

    def write(
        self, text: str, *, left: int, top: int, size: int, ink: Colour, beside: bool = False
    ) -> None:
        """Write a line of text below `top`, or centred on it if `beside`."""
        font, anchor = ImageFont.load_default(size), "lm" if beside else None
        self._pen.text((left, top), text, font=font, fill=ink, anchor=anchor)

    def rule(self, *, left: int, right: int, top: int, ink: Colour) -> None:
        """Draw a horizontal line."""
        self._pen.line((left, top, right, top), fill=ink)

    def png(self) -> bytes:
        """Return the page as a PNG."""
        return _file(self._picture, "PNG")

    def small_png(self) -> bytes:
        """Return the page at half size, as a small PNG."""
        return _file(self._picture.reduce(2), "PNG", optimize=True)


def text_width(text: str, size: int) -> float:
    """Return the width of a line of text, in pixels."""
    return ImageFont.load_default(size).getlength(text)


def stretch(values: Floats, *, height: int, width: int) -> Floats:
    """Resize a (rows, columns) map of numbers to (height, width), bilinearly."""
    smooth = Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float32)


def blur(grey: Pixels, radius: float) -> Pixels:
    """Blur a grey picture, (height, width), by a Gaussian of this radius in pixels."""
    return np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(radius)))


def turn(grey: Pixels, degrees: float) -> Pixels:
    """Rotate a grey picture, (height, width), anticlockwise about its centre; corners are black."""
    return np.asarray(Image.fromarray(grey).rotate(degrees, Image.Resampling.BILINEAR))


def write_into(grey: Pixels, text: str, *, left: float, top: float, size: float) -> Pixels:
    """Return a grey picture, (height, width), with white text in it."""
    picture = Image.fromarray(grey)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((left, top), text, fill=250, font=font)
    return np.asarray(picture)


def as_jpeg(grey: Pixels, *, quality: int) -> bytes:
    """Return a grey picture, (height, width), as a JPEG."""
    return _file(Image.fromarray(grey), "JPEG", quality=quality)


def _file(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
