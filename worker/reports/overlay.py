"""Draws an evidence map over its film, with its scale and the prediction.

All films and versions share one colour scale, so that pictures can be compared: warm for evidence
of PNEUMONIA, blue for evidence of NORMAL, no colour for none. The map is drawn smoothly and still
sums to the logit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from worker.imaging.drawing import Colour, Page, stretch, text_width
from worker.imaging.preprocessing import Pixels
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.model.runtime import Floats

# Evidence is given per 1/64 of a film, so that maps with more or fewer cells are comparable.
PARTS = 64
END_OF_SCALE = 0.2  # logits per part; in 146 films one value in 300 was beyond
LONGER_SIDE = 640  # of the film as drawn, pixels

_FOR = np.array([255, 70, 0], dtype=np.float32)  # PNEUMONIA
_AGAINST = np.array([0, 110, 255], dtype=np.float32)  # NORMAL
_COVER = 0.6  # opacity of the strongest colour
_MARGIN, _BAR, _NUMBERS = 24, 22, 64  # pixels
_LEAST_WIDTH = 900
_PAPER: Colour = (250, 250, 250)
_INK: Colour = (20, 20, 20)
_FAINT: Colour = (90, 90, 90)


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The text around the picture."""

    scan_id: int
    sha256: str
    version: str
    logit: float
    probability: float
    threshold: float
    label: str
    decision: str
    review_reason: str | None
    on_record: bool  # from the row; else computed for this picture


def fit(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) of a film as drawn: its aspect ratio, the longer side fixed.

    >>> fit(2000, 1000)
    (640, 320)
    """
    scale = LONGER_SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def spread(evidence: Floats, *, width: int, height: int) -> Floats:
    """Interpolate an evidence map over a film: (rows, columns) to (height, width) float32.

    Each value is the evidence per 1/64 of the film at that point; their mean is 1/64 of the logit.
    """
    parts = np.asarray(evidence, dtype=np.float32) * (evidence.size / PARTS)
    return stretch(parts, height=height, width=width)


def colour(grey: Pixels, parts: Floats) -> Pixels:
    """Colour a film, (height, width) uint8, by evidence of the same shape.

    Returns:
        (height, width, 3) uint8.
    """
    strength = np.clip(parts / END_OF_SCALE, -1, 1)[..., np.newaxis]
    cover = _COVER * np.abs(strength)
    tint = np.where(strength > 0, _FOR, _AGAINST)
    film = grey[..., np.newaxis].astype(np.float32)
    coloured: Pixels = np.rint(film * (1 - cover) + tint * cover).astype(np.uint8)
    return coloured


def draw(grey: Pixels, evidence: Floats, caption: Caption) -> bytes:
    """Return a PNG: the film, the film with its evidence, the scale, and the prediction.

    Args:
        grey: (height, width) uint8, upright, of the size from `fit`.
        evidence: (rows, columns), of the whole film; sums to the logit.
        caption: the prediction.
    """
    height, width = grey.shape
    page_width = max(_LEAST_WIDTH, 2 * width + 4 * _MARGIN + _BAR + _NUMBERS)
    above = [
        *_lines("Model evidence, not the outline of a lesion", 24, page_width, _INK),
        *_lines(_said(caption), 18, page_width, _INK),
        *_lines(_source(caption), 14, page_width, _FAINT),
    ]
    below = [*_lines(_reading(caption), 14, page_width, _FAINT)]
    top = 2 * _MARGIN + sum(line.height for line in above)
    bottom = top + height + _MARGIN
    page = Page(page_width, bottom + sum(line.height for line in below) + _MARGIN, _PAPER)
    _write(page, above, _MARGIN)
    page.paste(grey, left=_MARGIN, top=top)
    coloured = colour(grey, spread(evidence, width=width, height=height))
    page.paste(coloured, left=2 * _MARGIN + width, top=top)
    _draw_scale(page, left=3 * _MARGIN + 2 * width, top=top, height=height)
    _write(page, below, bottom)
    return page.png()


def thumbnail(grey: Pixels, evidence: Floats) -> bytes:
    """Return a PNG at half size: the film, and next to it the film with its evidence."""
    height, width = grey.shape
    coloured = colour(grey, spread(evidence, width=width, height=height))
    pair = Page(2 * width, height, _PAPER)
    pair.paste(grey, left=0, top=0)
    pair.paste(coloured, left=width, top=0)
    return pair.small_png()


def _said(caption: Caption) -> str:
    decision = caption.decision
    if decision == REVIEW:
        why = f" ({caption.review_reason})" if caption.review_reason else ""
        decision = f"{REVIEW}{why}, on the side of {caption.label}"
    return (
        f"{decision}   score {caption.probability:.3f}, the probability of {POSITIVE.lower()}   "
        f"threshold {caption.threshold:.3f}"
    )


def _source(caption: Caption) -> str:
    record = "as on record" if caption.on_record else "computed for this picture, not on record"
    return (
        f"scan {caption.scan_id}   SHA-256 {caption.sha256[:12]}   model {caption.version}, "
        f"{record}   not a medical device"
    )


def _reading(caption: Caption) -> str:
    return (
        f"Warm colours are evidence of {POSITIVE}, blue of {NEGATIVE}; no colour is no evidence. "
        f"All evidence sums to the logit, {caption.logit:+.3f}. The scale is the same for every "
        f"film: logits per 1/{PARTS} of the film, from {-END_OF_SCALE:g} to {END_OF_SCALE:+g}; "
        f"values beyond it have the colour of its end."
    )


def _draw_scale(page: Page, *, left: int, top: int, height: int) -> None:
    """Draw the scale as it looks over medium grey, the largest value on top."""
    values = np.linspace(END_OF_SCALE, -END_OF_SCALE, height, dtype=np.float32)
    grey = np.full((height, _BAR), 128, dtype=np.uint8)
    bar = colour(grey, np.repeat(values[:, np.newaxis], _BAR, axis=1))
    page.paste(bar, left=left, top=top)
    end = left + _BAR
    for step in range(5):
        value = END_OF_SCALE * (1 - step / 2)
        y = top + round((height - 1) * step / 4)
        page.rule(left=end, right=end + 5, top=y, ink=_INK)
        words = f"{value:+.2f}" if value else "0"
        page.write(words, left=end + 9, top=y, size=14, ink=_INK, beside=True)


@dataclass(frozen=True, kw_only=True)
class _Line:
    text: str
    size: int
    ink: Colour

    @property
    def height(self) -> int:
        return round(self.size * 1.5)


def _lines(text: str, size: int, page_width: int, ink: Colour) -> Iterator[_Line]:
    """Break a text into lines that fit the page."""
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if line and text_width(longer, size) > page_width - 2 * _MARGIN:
            yield _Line(text=line, size=size, ink=ink)
            longer = word
        line = longer
    yield _Line(text=line, size=size, ink=ink)


def _write(page: Page, lines: list[_Line], top: int) -> None:
    for line in lines:
        page.write(line.text, left=_MARGIN, top=top, size=line.size, ink=line.ink)
        top += line.height
