"""Near copies: the same film saved otherwise is found, another chest is not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from films import Grey, draw, jpeg
from PIL import Image, ImageEnhance
from pixels import pixels_of

from training.data.near_duplicates import Likeness, near_copies
from worker.imaging.preprocessing import Pixels, resize

SIDE = 128


def pixels(array: Grey, quality: int = 90) -> Pixels:
    """Return a film as the network sees it, saved and read."""
    return pixels_of(jpeg(array, quality=quality), height=SIDE, width=SIDE)


def brightened(array: Grey, factor: float) -> Grey:
    """Return a film with more contrast, or less."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(array)).enhance(factor))


SPOILT = {
    "saved again": lambda film: pixels(film, quality=30),
    "a smaller copy": lambda film: pixels(resize(film, height=160, width=160)),
    "more contrast": lambda film: pixels(brightened(film, 1.3)),
    "less contrast": lambda film: pixels(brightened(film, 0.6)),
    "darker": lambda film: pixels((255 * (film / 255) ** 1.4).astype(np.uint8)),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_film_saved_otherwise_is_a_near_copy(how: str) -> None:
    """Each of six films is found again, and with no other."""
    films = [draw(seed, opacity=seed % 2) for seed in range(6)]
    originals = [pixels(film) for film in films]
    again = [SPOILT[how](film) for film in films]
    pairs = near_copies(np.stack([*originals, *again]))
    assert [(one, other) for one, other, _ in pairs] == [(n, n + 6) for n in range(6)]


def test_different_chests_are_no_copies() -> None:
    """Two hundred drawn films, which are more alike than real ones, are two hundred films."""
    drawn = [
        resize(draw(seed, width=160, height=128, opacity=seed % 2), height=32, width=32)
        for seed in range(200)
    ]
    assert near_copies(np.stack(drawn)) == []


def test_only_the_rows_that_were_named_are_compared() -> None:
    """Places are those in the list of rows, so that a cache may hold films of other nights."""
    films = np.stack([pixels(draw(seed)) for seed in (1, 2, 1, 3, 1)])
    assert [pair[:2] for pair in near_copies(films, [4, 3, 0])] == [(0, 2)]
    assert near_copies(films, [1, 2, 3]) == []


def test_many_films_are_compared_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the work is cut up, the pairs are the same."""
    films = np.stack([pixels(draw(seed % 17)) for seed in range(40)])
    whole = near_copies(films)
    assert len(whole) == sum(one % 17 == other % 17 for other in range(40) for one in range(other))
    monkeypatch.setattr("training.data.near_duplicates._TILE", (3, 7))
    monkeypatch.setattr("training.data.near_duplicates._ROWS", 5)
    assert [pair[:2] for pair in near_copies(films)] == [pair[:2] for pair in whole]


def test_evenly_grey_films_do_no_harm() -> None:
    """A film without any detail is like nothing, and nothing is divided by nothing."""
    films = np.stack([np.full((SIDE, SIDE), level, np.uint8) for level in (0, 0, 90)])
    assert near_copies(films) == []


def test_real_films(data: Path) -> None:
    """Each full-size original is a near copy of its small one; of the rest, no two are."""
    originals = sorted(data.glob("originals/*/*"))[::6]
    small = [next(data.glob(f"chest_xray/*/*/{path.name}")) for path in originals]
    read = [pixels_of(path.read_bytes(), height=SIDE, width=SIDE) for path in [*originals, *small]]
    count = len(originals)
    pairs = near_copies(np.stack(read), likeness=Likeness())
    assert [pair[:2] for pair in pairs] == [(n, n + count) for n in range(count)]
    buffer = io.BytesIO()
    Image.open(originals[0]).convert("L").rotate(0.5).save(buffer, "JPEG")
    turned = pixels_of(buffer.getvalue(), height=SIDE, width=SIDE)
    assert len(near_copies(np.stack([read[0], turned]))) == 1
