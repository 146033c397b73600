"""Does what arrives still look like what arrived when this model came into service?

Without labels: each day's films are counted by decision, score, strangeness, size and contrast, and
a week of days is compared with the first weeks that the model saw here, by the population stability
index (PSI; Siddiqi, Credit Risk Scorecards, 2006). Pure: counts in, findings out.

The limit of each measure is no rule of thumb. Years in which nothing changes are made by drawing
days of the reference anew, days as a whole, for films of a day are more alike than others; the
limit is what no more than `BUDGET` of such years go over, with any measure, on any of their days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BUDGET = 0.1  # of years without a change have an alarm
WINDOW_DAYS = 7  # with films, that are looked at together
REFERENCE_DAYS = 28  # with films, the first that the model saw
LEAST_DAYS = 14  # of a reference
LEAST_FILMS = 300
_YEARS = 1000  # drawn
# A month of days tells less of how days differ than drawing from them makes believe: simulated
# years without a change had 1.4 times the alarms that were asked for.
_CAUTION = 0.5
_YEAR_DAYS = 365
_BINS = 10

Counts = npt.NDArray[np.float64]  # (days, bins) films


@dataclass(frozen=True, kw_only=True)
class Day:
    """What came on a day: the measures of each film, NaN where it has none."""

    day: str
    values: Mapping[str, npt.NDArray[np.float64]]  # (films,) by measure


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How far the last days are from the reference, by one measure."""

    measure: str
    psi: float
    limit: float
    by_day: tuple[float, ...]  # PSI of the window that ends on each day, oldest first

    @property
    def alarm(self) -> bool:
        """Whether the last days are farther away than chance takes them."""
        return not self.psi <= self.limit


def psi(reference: Counts, counts: Counts) -> npt.NDArray[np.float64]:
    """Return the population stability index of counts over bins, along the last axis.

    Half a film is added to each bin, so that an empty one does not make it infinite.
    """
    expected, found = reference + 0.5, counts + 0.5
    expected = expected / expected.sum(axis=-1, keepdims=True)
    found = found / found.sum(axis=-1, keepdims=True)
    index: npt.NDArray[np.float64] = ((found - expected) * np.log(found / expected)).sum(axis=-1)
    return index


def find_drift(reference: Sequence[Day], since: Sequence[Day], *, seed: int = 0) -> list[Finding]:
    """Compare the last days with the reference, by every measure that the reference has.

    Args:
        reference: days with films, oldest first; at least `LEAST_DAYS` of them.
        since: the days with films after those, oldest first.
        seed: of the years that are drawn.
    """
    measures = list(reference[0].values)
    generator = np.random.default_rng(seed)
    # The same days for all measures: what happens on a day happens to all of them.
    days = len(reference)
    drawn = generator.integers(days, size=(_YEARS, _YEAR_DAYS + WINDOW_DAYS - 1))
    base = generator.integers(days, size=(_YEARS, days))
    found = []
    for measure in measures:
        edges = _edges(np.concatenate([day.values[measure] for day in reference]))
        counts = _count(reference, measure, edges)
        share = 1 - _CAUTION * BUDGET / len(measures)
        limit = _limit(counts, drawn, base, share=share)
        windows = _windows(_count(since, measure, edges))
        by_day = tuple(float(one) for one in psi(counts.sum(axis=0), windows))
        latest = by_day[-1] if by_day else 0.0
        found.append(Finding(measure=measure, psi=latest, limit=limit, by_day=by_day))
    return found


def _limit(
    counts: Counts,
    drawn: npt.NDArray[np.int64],
    base: npt.NDArray[np.int64],
    *,
    share: float,
) -> float:
    """Return what the largest PSI of a year stays within in so large a share of drawn years."""
    most = [
        psi(counts[again].sum(axis=0), _windows(counts[year])).max()
        for year, again in zip(drawn, base, strict=True)
    ]
    return float(np.quantile(most, share))


def _edges(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the inner edges of bins that hold a tenth of the values each, or one value each."""
    known = values[np.isfinite(values)]
    distinct = np.unique(known)
    edges: npt.NDArray[np.float64]
    if len(distinct) <= _BINS:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))
    return edges


def _count(days: Sequence[Day], measure: str, edges: npt.NDArray[np.float64]) -> Counts:
    """Return films by day and bin, (days, bins); the last bin is of those that have no value."""
    bins = len(edges) + 2
    counts = np.zeros((len(days), bins))
    for row, day in enumerate(days):
        values = day.values[measure]
        known = np.isfinite(values)
        places = np.where(known, np.searchsorted(edges, np.where(known, values, 0)), bins - 1)
        counts[row] = np.bincount(places, minlength=bins)
    return counts


def _windows(counts: Counts) -> Counts:
    """Return the sums of windows of days, one ending on each day from the first whole one on."""
    total: Counts = np.cumsum(np.vstack([np.zeros(counts.shape[1]), counts]), axis=0)
    windows: Counts = total[WINDOW_DAYS:] - total[:-WINDOW_DAYS]
    return windows


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the model and readers agreed, in a week: right, of so many."""

    week: str  # its Monday
    of_pneumonia: tuple[int, int]
    of_normal: tuple[int, int]


def interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score (1927); (0, 1) of nothing."""
    if count == 0:
        return 0.0, 1.0
    z = 1.959964
    share, more = right / count, z * z / count
    middle = (share + more / 2) / (1 + more)
    half = z * np.sqrt(share * (1 - share) / count + more / (4 * count)) / (1 + more)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))
