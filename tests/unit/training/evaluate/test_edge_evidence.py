"""The share of the evidence that lies at a film's edges."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluate.edge_evidence import EVEN_SHARE, outer_share, summarise
from worker.model.evaluation import EdgeEvidence


def test_an_even_map_has_the_share_of_the_area() -> None:
    """Whatever its cells, its sign and its size: 1 - (3/4)^2; nothing counts as even."""
    assert pytest.approx(0.4375) == EVEN_SHARE
    for shape in ((8, 8), (4, 4), (7, 7), (14, 14), (3, 11), (1, 1)):
        assert outer_share(np.full(shape, -0.3)) == pytest.approx(EVEN_SHARE)
    assert outer_share(np.zeros((8, 8))) == EVEN_SHARE


def test_edges_count_and_the_middle_does_not() -> None:
    """All of it at the rim is one, all of it within is none; for and against count alike."""
    evidence = np.zeros((8, 8), dtype=np.float32)
    evidence[3, 4] = 2.0
    assert outer_share(evidence) == pytest.approx(0)
    evidence[0, 4] = -2.0
    assert outer_share(evidence) == pytest.approx(0.5)
    evidence[3, 4] = 0
    assert outer_share(evidence) == pytest.approx(1)


def test_a_cell_across_the_line_counts_on_both_sides() -> None:
    """A corner of a 4 x 4 map lies within by a quarter, so that coarse maps are not flattered."""
    evidence = np.zeros((4, 4))
    evidence[0, 0] = 1.0
    assert outer_share(evidence) == pytest.approx(0.75)


def test_shares_of_many_films_are_told_beside_an_even_maps() -> None:
    """Mean and median; nothing of films of which nothing is known."""
    expected = EdgeEvidence(mean=0.3, median=0.2, even=EVEN_SHARE)
    assert summarise([0.1, 0.2, 0.6]) == expected
    assert summarise([]) is None
