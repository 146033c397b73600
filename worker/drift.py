"""Does what arrives still look like what arrived when this model came into service?

Without labels: each day's films are counted by decision, score, strangeness, size, contrast and by
what wrote their files, and a week of days is compared with the first weeks that the model saw here,
by the population stability index (PSI; Siddiqi, Credit Risk Scorecards, 2006). Pure: counts in,
findings out.

The limit of each measure is no rule of thumb. Years in which nothing changes are made by drawing
days of the reference anew, days as a whole, for films of a day are more alike than others; the
limit is what no more than `BUDGET` of such years go over, with any measure, on any of their days.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
KINDS = frozenset(
    {"decision", "encoding"}
)  # measures whose values are names: none lies between two
# What the reference has none of cannot be drawn from it: so large a share of it is let pass.
_NEW_SHARE = 0.05

Counts = npt.NDArray[np.float64]  # (days, bins) films
_Place = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.intp]]  # (films,) to bins


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
    measures = [name for name in reference[0].values if _is_known(reference, name)]
    generator = np.random.default_rng(seed)
    # The same days for all measures: what happens on a day happens to all of them.
    days = len(reference)
    drawn = generator.integers(days, size=(_YEARS, _YEAR_DAYS + WINDOW_DAYS - 1))
    base = generator.integers(days, size=(_YEARS, days))
    found = []
    for measure in measures:
        place, bins = _placing(
            np.concatenate([day.values[measure] for day in reference]), kinds=measure in KINDS
        )
        counts = _count(reference, measure, place, bins)
        share = 1 - _CAUTION * BUDGET / len(measures)
        limit = _limit(counts, drawn, base, share=share)
        if measure in KINDS:
            limit = max(limit, _let_pass(counts))
        windows = _windows(_count(since, measure, place, bins))
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


def _is_known(reference: Sequence[Day], measure: str) -> bool:
    """Whether the reference can tell: rows of before a release may lack what it began to note."""
    return measure != "encoding" or all(np.isfinite(day.values[measure]).all() for day in reference)


def _let_pass(counts: Counts) -> float:
    """Return the index of a window of the reference's kinds and a few films of a new one."""
    total = counts.sum(axis=0)
    window = total * WINDOW_DAYS / len(counts)
    new = np.zeros_like(window)
    new[-1] = _NEW_SHARE * window.sum()
    return float(psi(total, window * (1 - _NEW_SHARE) + new))


def _placing(values: npt.NDArray[np.float64], *, kinds: bool) -> tuple[_Place, int]:
    """Return what says which bin a value belongs to, and how many bins there are.

    Bins hold a tenth of the values each, or one value each; of kinds, the most frequent ones. The
    last bin is of those that have no value, and of kinds not among these.
    """
    distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if kinds:
        kept = np.sort(distinct[np.argsort(-counts, kind="stable")[: _BINS - 1]])

        def place_kind(these: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
            return np.where(np.isin(these, kept), np.searchsorted(kept, these), len(kept))

        return place_kind, len(kept) + 1
    if len(distinct) <= _BINS:
        edges = (distinct[1:] + distinct[:-1]) / 2
    else:
        known = values[np.isfinite(values)]
        edges = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS))

    def place(these: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        known = np.isfinite(these)
        return np.where(known, np.searchsorted(edges, np.where(known, these, 0)), len(edges) + 1)

    return place, len(edges) + 2


def _count(days: Sequence[Day], measure: str, place: _Place, bins: int) -> Counts:
    """Return films by day and bin, (days, bins)."""
    return np.array(
        [np.bincount(place(day.values[measure]), minlength=bins) for day in days], dtype=np.float64
    ).reshape(len(days), bins)


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
