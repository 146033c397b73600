"""The share of a model's evidence at the film's edges, where borders and markers are.

The middle is the film without an eighth on each of its four sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from worker.model.evaluation import EdgeEvidence

_EDGE = 1 / 8  # of the film's side, at each end
# The share outside the middle if the evidence is spread evenly.
EVEN_SHARE = 1 - (1 - 2 * _EDGE) ** 2


def outer_share(evidence: npt.NDArray[np.floating]) -> float:
    """Return the share of the absolute evidence outside the middle of the film.

    Args:
        evidence: (rows, columns) of the whole film. A cell on the boundary counts on both sides, by
            area. A map of zeros counts as an even one.

    >>> outer_share(np.ones((8, 8))) == outer_share(np.ones((5, 7))) == EVEN_SHARE
    True
    """
    sizes = np.abs(evidence).astype(np.float64)
    rows, columns = (_inside(side) for side in sizes.shape)
    total = sizes.sum()
    return float(1 - rows @ sizes @ columns / total) if total else EVEN_SHARE


def summarise(shares: Sequence[float]) -> EdgeEvidence | None:
    """Return mean and median of `outer_share`, and the share of an even map; None without films."""
    if not shares:
        return None
    return EdgeEvidence(
        mean=float(np.mean(shares)), median=float(np.median(shares)), even=EVEN_SHARE
    )


def _inside(cells: int) -> npt.NDArray[np.float64]:
    """Return (cells,): the share of each cell along one side that lies between the edges."""
    ends = np.linspace(0, 1, cells + 1)
    clipped = np.clip(ends, _EDGE, 1 - _EDGE)
    return np.diff(clipped) * cells
