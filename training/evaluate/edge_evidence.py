"""How much of a model's evidence lies at the film's edges, where borders and markers are.

The middle is what is left of the film when an eighth is taken off each of its four sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worker.model.evaluation import EdgeEvidence

_EDGE = 1 / 8  # of the film's side, at each end
# What lies outside where the evidence is spread evenly over the film.
EVEN_SHARE = 1 - (1 - 2 * _EDGE) ** 2


def outer_share(evidence: npt.NDArray[np.floating]) -> float:
    """Return the share of the absolute evidence that lies outside the middle of the film.

    Args:
        evidence: (rows, columns) of the whole film. A cell across the line counts on both sides,
            by its area; a map of nothing counts as an even one.

    >>> outer_share(np.ones((8, 8))) == outer_share(np.ones((5, 7))) == EVEN_SHARE
    True
    """
    sizes = np.abs(evidence).astype(np.float64)
    rows, columns = (_inside(side) for side in sizes.shape)
    total = sizes.sum()
    return float(1 - rows @ sizes @ columns / total) if total else EVEN_SHARE


def summarise(shares: Sequence[float]) -> EdgeEvidence | None:
    """Return what `outer_share` gave over all films, beside that of an even map; None of none."""
    if not shares:
        return None
    return EdgeEvidence(
        mean=float(np.mean(shares)), median=float(np.median(shares)), even=EVEN_SHARE
    )


def _inside(cells: int) -> npt.NDArray[np.float64]:
    """Return (cells,): how much of each cell along one side lies between the two edges."""
    ends = np.linspace(0, 1, cells + 1)
    clipped = np.clip(ends, _EDGE, 1 - _EDGE)
    return np.diff(clipped) * cells
