"""Does what arrives still look like what arrived when this model came into service?

Without labels: each day's films are counted by decision, score, strangeness, size, contrast and by
what wrote their files, and a week of days is compared with the first weeks that the model saw here,
by the population stability index (PSI; Siddiqi, Credit Risk Scorecards, 2006). Pure: counts in,
findings out.

The limit of each measure is no rule of thumb. Years in which nothing changes are made by drawing
days of the reference anew, days as a whole, for films of a day are more alike than others; the
limit is what no more than `BUDGET` of such years go over, with any measure, on any of their days.
Chance takes few films farther than many: the limit is of a week's films as they are in number.
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
# What the reference has fewer films of cannot be drawn from it: such films are let pass while they
# are no more than so large a share of a window, or no more than a few.
_FEW = 5
_NEW_SHARE = 0.05
# Of a limit, in units of `_reach`: where the reference never varies, chance has no measure. It is
# what chi-square of one degree of freedom goes over once in a thousand times.
_LEAST = 10.8

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
    limit: float  # for as many films as the last days have
    by_day: tuple[float, ...]  # PSI over its limit, of the window ending on each day, oldest first

    @property
    def alarm(self) -> bool:
        """Whether the last days are farther away than chance takes them."""
        return not self.psi <= self.limit


def psi(reference: Counts, counts: Counts) -> npt.NDArray[np.float64]:
    """Return the population stability index of counts over bins, along the last axis.

    Half a film is added to each bin, so that an empty one does not make it infinite. A bin that is
    empty on both sides is none: else the halves alone would tell few films from many.
    """
    met = (reference > 0) | (counts > 0)
    expected, observed = np.where(met, reference + 0.5, 0.0), np.where(met, counts + 0.5, 0.0)
    expected /= np.maximum(expected.sum(axis=-1, keepdims=True), 0.5)
    observed /= np.maximum(observed.sum(axis=-1, keepdims=True), 0.5)
    ratio = np.divide(observed, expected, out=np.ones_like(observed), where=met)
    index: npt.NDArray[np.float64] = ((observed - expected) * np.log(ratio)).sum(axis=-1)
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
    findings = []
    for measure in measures:
        place, bins = _placing(
            np.concatenate([day.values[measure] for day in reference]), kinds=measure in KINDS
        )
        counts = _count(reference, measure, place, bins)
        share = 1 - _CAUTION * BUDGET / len(measures)
        limit = max(_LEAST, _limit(counts, drawn, base, share=share))
        windows = _windows(_count(since, measure, place, bins))
        distance, reach = _distance(counts, windows), _reach(counts, windows)
        by_day = tuple(float(one) for one in distance / (limit * reach))
        latest = (float(distance[-1]), float(limit * reach[-1])) if by_day else (0.0, limit)
        findings.append(Finding(measure=measure, psi=latest[0], limit=latest[1], by_day=by_day))
    return findings


def _limit(
    counts: Counts,
    drawn: npt.NDArray[np.int64],
    base: npt.NDArray[np.int64],
    *,
    share: float,
) -> float:
    """Return what in so large a share of drawn years no window exceeds, in units of its reach."""
    most = []
    for year, again in zip(drawn, base, strict=True):
        windows = _windows(counts[year])
        most.append((_distance(counts[again], windows) / _reach(counts[again], windows)).max())
    return float(np.quantile(most, share))


def _reach(reference: Counts, windows: Counts) -> npt.NDArray[np.float64]:
    """Return how far chance takes windows from a reference, for each degree of freedom.

    Without a change PSI is about chi-square times this (Yurdakul and Naranjo, *Statistical
    Properties of the Population Stability Index*, 2020). A window of more films than were usual in
    the reference is taken for one of as many: how days differ does not shrink with their films.

    Args:
        reference: (days, bins).
        windows: (windows, bins).
    """
    films = reference.sum()
    of_each = np.clip(windows.sum(axis=-1), 1, films * WINDOW_DAYS / len(reference))
    reach: npt.NDArray[np.float64] = 1 / films + 1 / of_each
    return reach


def _distance(reference: Counts, windows: Counts) -> npt.NDArray[np.float64]:
    """Return the index of each window, less the few films of what the reference hardly has.

    Args:
        reference: (days, bins).
        windows: (windows, bins).
    """
    total = reference.sum(axis=0)
    rare = total < _FEW
    strays = windows[:, rare].sum(axis=-1)
    passed = strays <= np.maximum(_NEW_SHARE * windows.sum(axis=-1), _FEW)
    return psi(total, np.where(rare & passed[:, np.newaxis], 0.0, windows))


def _is_known(reference: Sequence[Day], measure: str) -> bool:
    """Whether the reference can tell: rows of before a release may lack what it began to note."""
    return measure != "encoding" or all(np.isfinite(day.values[measure]).all() for day in reference)


def _placing(values: npt.NDArray[np.float64], *, kinds: bool) -> tuple[_Place, int]:
    """Return what says which bin a value belongs to, and how many bins there are.

    Of few distinct values, and of kinds, each of the most frequent has a bin, and what is not among
    these the last. Of others a bin holds a tenth of the values, or the one value that so many have,
    and the last those that have no value.
    """
    distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if kinds or len(distinct) <= _BINS:
        kept = np.sort(distinct[np.argsort(-counts, kind="stable")[: _BINS - 1]])

        def place_kind(these: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
            return np.where(np.isin(these, kept), np.searchsorted(kept, these), len(kept))

        return place_kind, len(kept) + 1
    known = values[np.isfinite(values)]
    tenths, times = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS), return_counts=True)
    # An edge just below a value that is several of them: what is smaller is not that value.
    edges = np.union1d(tenths, np.nextafter(tenths[times > 1], -np.inf))

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
