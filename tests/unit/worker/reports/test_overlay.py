"""The picture of an evidence map: what a person sees in it, and that it says what it is."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from films import draw as draw_film
from PIL import Image

from worker.imaging.preprocessing import Pixels
from worker.model.runtime import Floats
from worker.reports import overlay as evidence_picture
from worker.reports.overlay import END_OF_SCALE, PARTS, Caption, colour, draw, fit, spread

CAPTION = Caption(
    scan_id=7,
    sha256="c0ffee" * 10 + "beef",
    version="drawn-1",
    logit=1.25,
    probability=0.9,
    threshold=0.4,
    label="PNEUMONIA",
    decision="PNEUMONIA",
    review_reason=None,
    on_record=True,
)


def one_cell(value: float, *, rows: int = 8, columns: int = 8) -> Floats:
    """Return a map with evidence in one cell alone: third row, sixth column."""
    evidence = np.zeros((rows, columns), dtype=np.float32)
    evidence[2, 5] = value
    return evidence


def opened(png: bytes) -> Pixels:
    """Return a picture as (height, width, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def tinted(picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return how far each pixel is from grey: red less blue, as signed numbers."""
    signed = picture.astype(np.int16)
    found: npt.NDArray[Any] = signed[..., 0] - signed[..., 2]
    return found


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 4), (7, 7), (14, 14), (6, 9)])
def test_the_map_as_drawn_adds_up_to_the_logit(rows: int, columns: int) -> None:
    """However many cells a network has, and however long and narrow the film."""
    evidence = np.random.default_rng(rows).normal(0.02, 0.1, (rows, columns)).astype(np.float32)
    for width, height in ((640, 400), (203, 640)):
        parts = spread(evidence, width=width, height=height)
        assert parts.shape == (height, width)
        assert parts.mean() * PARTS == pytest.approx(evidence.sum(), abs=2e-2)


def test_only_where_the_evidence_is_the_film_is_coloured() -> None:
    """Warm over the cell that speaks for pneumonia, blue against; elsewhere the film's own grey."""
    grey = draw_film(3, width=640, height=400)
    for value, sign in ((0.15, 1), (-0.15, -1)):
        coloured = colour(grey, spread(one_cell(value), width=640, height=400))
        tint = sign * tinted(coloured)
        cell = tint[2 * 50 : 3 * 50, 5 * 80 : 6 * 80]
        assert cell.min() > 20
        far = np.ones_like(tint, dtype=bool)
        far[50:200, 320:560] = False  # the cell and its neighbours, which it fades into
        assert (coloured[far] == grey[far][:, np.newaxis]).all()
        assert tint.min() >= 0


def test_the_same_evidence_has_the_same_colour_on_every_film() -> None:
    """Fixed for all: not stretched to a film's own largest value; beyond the end, the end's."""
    grey = np.full((64, 64), 120, dtype=np.uint8)

    def middle(value: float) -> list[int]:
        evidence = np.full((8, 8), value, dtype=np.float32)
        found: list[int] = colour(grey, spread(evidence, width=64, height=64))[32, 32].tolist()
        return found

    weak, strong = middle(0.02), middle(0.2)
    assert 0 < weak[0] - weak[2] < 0.2 * (strong[0] - strong[2])
    assert middle(END_OF_SCALE) == middle(9.0) != middle(0.9 * END_OF_SCALE)


@pytest.mark.parametrize(("width", "height"), [(2000, 1500), (1500, 2000), (445, 140), (224, 224)])
def test_a_film_keeps_its_aspect_at_a_readable_size(width: int, height: int) -> None:
    """As broad for its height as it was, small films drawn larger."""
    shown = fit(width, height)
    assert max(shown) == 640
    assert shown[0] / shown[1] == pytest.approx(width / height, rel=0.01)


def test_the_film_its_evidence_and_the_scale_stand_side_by_side() -> None:
    """The bare film on the left, the coloured one beside it, the scale from warm to blue."""
    grey = draw_film(3, width=640, height=400)
    page = opened(draw(grey, one_cell(0.2), CAPTION))
    top = next(
        row for row in range(len(page)) if (page[row, 24:664] == grey[0][:, np.newaxis]).all()
    )
    assert (page[top : top + 400, 24:664] == grey[..., np.newaxis]).all()
    beside = page[top : top + 400, 688 : 688 + 640]
    assert tinted(beside)[125, 440] > 60
    assert (beside[300:] == grey[300:][..., np.newaxis]).all()
    scale = tinted(page[top : top + 400, 1352 : 1352 + 20].mean(axis=1))
    assert (np.diff(scale) <= 1).all()
    assert scale[0] > 60
    assert scale[-1] < -60
    numbers = page[top : top + 400, 1352 + 31 :]
    assert (numbers.min(axis=(1, 2)) < 100).sum() > 30


def test_it_says_what_it_is_in_lines_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score, threshold, decision, version, that it outlines no lesion; on a narrow film too."""
    told: list[str] = []
    write = evidence_picture._write

    def listen(page: object, lines: list[evidence_picture._Line], top: int) -> None:
        told.extend(line.text for line in lines)
        write(page, lines, top)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence_picture, "_write", listen)
    grey = draw_film(3, width=150, height=640)
    near = {"decision": "REVIEW", "review_reason": "near_threshold", "version": "v" * 64}
    plain = Caption(**(vars(CAPTION) | near | {"on_record": False}))
    page = opened(draw(grey, one_cell(0.1), plain))
    words = " ".join(told)
    for part in (
        *("not the outline of a lesion", "score 0.900", "threshold 0.400", "v" * 64, "+1.250"),
        *("REVIEW (near_threshold), on the side of PNEUMONIA", "scan 7", "c0ffeec0ffee"),
        *("not on record", "not a medical device", "-0.2 to +0.2"),
    ):
        assert part in words
    assert (page[:, -10:] == page[0, 0]).all(), "nothing runs over the edge"
