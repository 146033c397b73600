"""The kept corpus of `benchmarks/fuzz.py`: each file once reached code that no other did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worker.errors import FilmRefused, RefusalCode
from worker.imaging.preprocessing import PREPROCESSING_VERSIONS, FilmLimits, read_film

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize(
    "limits", [FilmLimits(), FilmLimits(max_pixels=250_000, min_side_pixels=1)]
)
@pytest.mark.parametrize("version", PREPROCESSING_VERSIONS)
def test_each_is_a_film_or_is_refused(limits: FilmLimits, version: str) -> None:
    """Nothing but a refusal with a reason is ever raised, and refusals are of many kinds."""
    codes = set[RefusalCode]()
    for path in CORPUS:
        try:
            film = read_film(path.read_bytes(), height=8, width=8, version=version, limits=limits)
        except FilmRefused as refused:
            codes.add(refused.code)
        else:
            assert film.pixels.shape == (8, 8)
            assert film.pixels.dtype == np.uint8
    assert len(codes) >= 6, codes
