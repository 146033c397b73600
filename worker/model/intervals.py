"""The 95 % interval of a proportion."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # the normal distribution's 97.5 % quantile


def wilson_interval(hits: int, of: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927); (0, 1) if `of` is 0.

    >>> wilson_interval(0, 0)
    (0.0, 1.0)
    """
    if of == 0:
        return 0.0, 1.0
    share, square = hits / of, Z95**2 / of
    middle = (share + square / 2) / (1 + square)
    reach = Z95 * math.sqrt(share * (1 - share) / of + square / (4 * of)) / (1 + square)
    # At 0 and 1 the formula gives exactly 0 and 1, except for rounding.
    return 0.0 if hits == 0 else middle - reach, 1.0 if hits == of else middle + reach
