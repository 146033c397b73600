"""Draws an evidence map over its film, with its scale and what the model said. Pillow alone.

One colour scale for all films and versions, so that two pictures can be laid side by side: warm
where the evidence speaks for PNEUMONIA, blue where it speaks for NORMAL, no colour where there is
none. The map is drawn smoothly, and still adds up to the logit.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from worker.imaging.preprocessing import Pixels
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.model.runtime import Floats

# Evidence is told for this part of a film, so that maps of more or fewer cells compare.
PARTS = 64
END_OF_SCALE = 0.2  # logits for each such part; in 146 films one value in 300 lay beyond
LONGER_SIDE = 640  # of the film as drawn, pixels

_FOR = np.array([255, 70, 0], dtype=np.float32)  # PNEUMONIA
_AGAINST = np.array([0, 110, 255], dtype=np.float32)  # NORMAL
_COVER = 0.6  # how much of the film the strongest colour hides
_MARGIN, _BAR, _NUMBERS = 24, 22, 64  # pixels
_LEAST_WIDTH = 900
_PAPER, _INK, _FAINT = (250, 250, 250), (20, 20, 20), (90, 90, 90)

Colours = npt.NDArray[np.uint8]  # (height, width, 3)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What stands beside the picture."""

    scan_id: int
    sha256: str
    version: str
    logit: float
    probability: float
    threshold: float
    label: str
    decision: str
    review_reason: str | None
    on_record: bool  # the row says so; else it was computed for this picture


def fit(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of a film as drawn: its own aspect, the longer side always the same.

    >>> fit(2000, 1000)
    (640, 320)
    """
    scale = LONGER_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def spread(evidence: Floats, *, width: int, height: int) -> Floats:
    """Spread an evidence map over a film: (rows, columns) to (height, width) float32.

    Each value is that of a 64th of the film lying there; their mean is a 64th of the logit.
    """
    parts = np.asarray(evidence, dtype=np.float32) * (evidence.size / PARTS)
    smooth = Image.fromarray(parts).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(smooth, dtype=np.float32)


def colour(grey: Pixels, parts: Floats) -> Colours:
    """Colour a film, (height, width) uint8, by evidence spread over it, of the same shape."""
    strength = np.clip(parts / END_OF_SCALE, -1, 1)[..., np.newaxis]
    cover = _COVER * np.abs(strength)
    tint = np.where(strength > 0, _FOR, _AGAINST)
    film = grey[..., np.newaxis].astype(np.float32)
    coloured: Colours = np.rint(film * (1 - cover) + tint * cover).astype(np.uint8)
    return coloured


def draw(grey: Pixels, evidence: Floats, told: Told) -> bytes:
    """Return a PNG: the film, the film with the evidence over it, the scale, and what was said.

    Args:
        grey: (height, width) uint8, upright, of the size `fit` gives.
        evidence: (rows, columns), of the whole film; adds up to the logit.
        told: what the model said.
    """
    height, width = grey.shape
    page_width = max(_LEAST_WIDTH, 2 * width + 4 * _MARGIN + _BAR + _NUMBERS)
    above = [
        *_lines("Model evidence, not the outline of a lesion", 24, page_width, _INK),
        *_lines(_said(told), 18, page_width, _INK),
        *_lines(_source(told), 14, page_width, _FAINT),
    ]
    below = [*_lines(_reading(told), 14, page_width, _FAINT)]
    top = 2 * _MARGIN + sum(line.height for line in above)
    bottom = top + height + _MARGIN
    page = Image.new(
        "RGB", (page_width, bottom + sum(line.height for line in below) + _MARGIN), _PAPER
    )
    pen = ImageDraw.Draw(page)
    _write(pen, above, _MARGIN)
    page.paste(Image.fromarray(grey), (_MARGIN, top))
    coloured = colour(grey, spread(evidence, width=width, height=height))
    page.paste(Image.fromarray(coloured), (2 * _MARGIN + width, top))
    _draw_scale(page, pen, left=3 * _MARGIN + 2 * width, top=top, height=height)
    _write(pen, below, bottom)
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return buffer.getvalue()


def thumbnail(grey: Pixels, evidence: Floats) -> bytes:
    """Return a PNG of half the size: the film, and beside it the film with the evidence over it."""
    height, width = grey.shape
    coloured = colour(grey, spread(evidence, width=width, height=height))
    pair = Image.new("RGB", (2 * width, height), _PAPER)
    pair.paste(Image.fromarray(grey), (0, 0))
    pair.paste(Image.fromarray(coloured), (width, 0))
    buffer = io.BytesIO()
    pair.reduce(2).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _said(told: Told) -> str:
    decision = told.decision
    if decision == REVIEW:
        why = f" ({told.review_reason})" if told.review_reason else ""
        decision = f"{REVIEW}{why}, on the side of {told.label}"
    return (
        f"{decision}   score {told.probability:.3f}, the probability of {POSITIVE.lower()}   "
        f"threshold {told.threshold:.3f}"
    )


def _source(told: Told) -> str:
    record = "as on record" if told.on_record else "computed for this picture, not on record"
    return (
        f"scan {told.scan_id}   SHA-256 {told.sha256[:12]}   model {told.version}, {record}   "
        "not a medical device"
    )


def _reading(told: Told) -> str:
    return (
        f"Warm speaks for {POSITIVE}, blue for {NEGATIVE}; where there is no colour there is no "
        f"evidence. All of it adds up to the logit, {told.logit:+.3f}. The scale is the same for "
        f"every film: logits for each 1/{PARTS} of the film, from {-END_OF_SCALE:g} to "
        f"{END_OF_SCALE:+g}; what lies beyond has the colour of the end."
    )


def _draw_scale(
    page: Image.Image, pen: ImageDraw.ImageDraw, *, left: int, top: int, height: int
) -> None:
    """Draw the scale as it looks over a film's middle grey, the largest value on top."""
    values = np.linspace(END_OF_SCALE, -END_OF_SCALE, height, dtype=np.float32)
    grey = np.full((height, _BAR), 128, dtype=np.uint8)
    bar = colour(grey, np.repeat(values[:, np.newaxis], _BAR, axis=1))
    page.paste(Image.fromarray(bar), (left, top))
    font = ImageFont.load_default(14)
    for step in range(5):
        value = END_OF_SCALE * (1 - step / 2)
        y = top + round((height - 1) * step / 4)
        pen.line((left + _BAR, y, left + _BAR + 5, y), fill=_INK)
        words = f"{value:+.2f}" if value else "0"
        pen.text((left + _BAR + 9, y), words, font=font, fill=_INK, anchor="lm")


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    size: int
    fill: tuple[int, int, int]

    @property
    def height(self) -> int:
        return round(self.size * 1.5)


def _lines(text: str, size: int, page_width: int, fill: tuple[int, int, int]) -> Iterator[_Line]:
    """Break a text into lines that fit the page."""
    font = ImageFont.load_default(size)
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and font.getlength(longer) > page_width - 2 * _MARGIN:
            yield _Line(text=line, size=size, fill=fill)
            longer = word
        line = longer
    yield _Line(text=line, size=size, fill=fill)


def _write(pen: ImageDraw.ImageDraw, lines: list[_Line], top: int) -> None:
    for line in lines:
        pen.text((_MARGIN, top), line.text, font=ImageFont.load_default(line.size), fill=line.fill)
        top += line.height
