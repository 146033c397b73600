"""Wilson's interval of a share."""

from __future__ import annotations

import math

import pytest

from worker.model.intervals import wilson_interval


def test_as_newcombe_gives_it() -> None:
    """Newcombe (1998) for 81 of 263 and for none of 20; of nothing, all is possible."""
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (1, 10), (5, 10), (10, 10), (583, 584)])
def test_bounds_are_where_the_score_test_turns(hits: int, of: int) -> None:
    """By its definition: a share at a bound is 1.96 standard errors, of its own, from the data."""
    low, high = wilson_interval(hits, of)
    assert 0 <= low <= hits / of <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            z = abs(hits / of - bound) / math.sqrt(bound * (1 - bound) / of)
            assert z == pytest.approx(1.959964, abs=1e-5)
