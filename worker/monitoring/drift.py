"""Detects drift: whether arriving films differ from the first ones that this model screened here.

It needs no labels. Each day's films are counted by decision, score, strangeness, size, contrast and
writer of the file. The last week of days is compared with the model's first weeks, by the
population stability index (PSI; Siddiqi, Credit Risk Scorecards, 2006). Pure: counts in, findings
out.

The limit of each measure is simulated. Years without a change are drawn from whole days of the
reference, because films of one day resemble each other. At most `BUDGET` of such years exceed the
limit, in any measure, on any day. Random differences are larger for fewer films, so the limit
depends on the number of films in the week.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BUDGET = 0.1  # share of years without a change that have an alarm
WINDOW_DAYS = 7  # days with films that are compared together
REFERENCE_DAYS = 28  # the model's first days with films
LEAST_DAYS = 14  # in a reference
LEAST_FILMS = 300
_YEARS = 1000  # simulated
# A month of days underestimates the differences between days: simulated years without a change had
# 1.4 times as many alarms as intended.
_CAUTION = 0.5
_YEAR_DAYS = 365
_BINS = 10
KINDS = frozenset({"decision", "encoding"})  # measures whose values are categories
# Values that are rare in the reference cannot be drawn from it. Such films are ignored while they
# are at most this share of a window, or at most a few.
_FEW = 5
_NEW_SHARE = 0.05
# The smallest limit, in units of `_reach`, for a reference that never varies: chi-square with one
# degree of freedom exceeds it once in a thousand times.
_LEAST = 10.8

Counts = npt.NDArray[np.float64]  # (days, bins) films
_Place = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.intp]]  # (films,) to bins


@dataclass(frozen=True, kw_only=True)
class Day:
    """The films of one day: each measure of each film, NaN if missing."""

    day: str
    values: Mapping[str, npt.NDArray[np.float64]]  # (films,) by measure


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The distance of the last days from the reference, by one measure."""

    measure: str
    psi: float
    limit: float  # for the number of films in the last days
    by_day: tuple[float, ...]  # PSI / limit of the window ending on each day, oldest first

    @property
    def alarm(self) -> bool:
        """Whether the distance is larger than chance explains."""
        return not self.psi <= self.limit


def psi(reference: Counts, counts: Counts) -> npt.NDArray[np.float64]:
    """Return the population stability index of counts over bins, along the last axis.

    Half a film is added to each bin, so that an empty bin does not make it infinite. A bin that is
    empty on both sides is left out; else the halves alone would depend on the number of films.
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
        reference: days with films, oldest first; at least `LEAST_DAYS`.
        since: the later days with films, oldest first.
        seed: of the simulated years.
    """
    measures = [name for name in reference[0].values if _is_known(reference, name)]
    generator = np.random.default_rng(seed)
    # The same days for all measures, because an event on a day affects all of them.
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
    """Return the value that this share of simulated years never exceeds, in units of `_reach`."""
    most = []
    for year, again in zip(drawn, base, strict=True):
        windows = _windows(counts[year])
        most.append((_distance(counts[again], windows) / _reach(counts[again], windows)).max())
    return float(np.quantile(most, share))


def _reach(reference: Counts, windows: Counts) -> npt.NDArray[np.float64]:
    """Return the random distance of windows from a reference, per degree of freedom.

    Without a change PSI is about chi-square times this (Yurdakul and Naranjo, *Statistical
    Properties of the Population Stability Index*, 2020). A window with more films than usual in the
    reference counts as one with as many, because differences between days do not shrink with films.

    Args:
        reference: (days, bins).
        windows: (windows, bins).
    """
    films = reference.sum()
    of_each = np.clip(windows.sum(axis=-1), 1, films * WINDOW_DAYS / len(reference))
    reach: npt.NDArray[np.float64] = 1 / films + 1 / of_each
    return reach


def _distance(reference: Counts, windows: Counts) -> npt.NDArray[np.float64]:
    """Return the index of each window, ignoring a few films of values rare in the reference.

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
    """Whether the reference has the measure. Rows of older releases may lack newer ones."""
    return measure != "encoding" or all(np.isfinite(day.values[measure]).all() for day in reference)


def _placing(values: npt.NDArray[np.float64], *, kinds: bool) -> tuple[_Place, int]:
    """Return a function from values to bins, and the number of bins.

    Categories, and measures with few distinct values, have a bin for each of the most frequent
    values and a last one for the rest. Other measures have bins with a tenth of the values each, or
    with one frequent value, and a last one for missing values.
    """
    distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    if kinds or len(distinct) <= _BINS:
        kept = np.sort(distinct[np.argsort(-counts, kind="stable")[: _BINS - 1]])

        def place_kind(these: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
            return np.where(np.isin(these, kept), np.searchsorted(kept, these), len(kept))

        return place_kind, len(kept) + 1
    known = values[np.isfinite(values)]
    tenths, times = np.unique(np.quantile(known, np.arange(1, _BINS) / _BINS), return_counts=True)
    # Put an edge just below a value at several quantiles, so that smaller values have another bin.
    edges = np.union1d(tenths, np.nextafter(tenths[times > 1], -np.inf))

    def place(these: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
        known = np.isfinite(these)
        return np.where(known, np.searchsorted(edges, np.where(known, these, 0)), len(edges) + 1)

    return place, len(edges) + 2


def _count(days: Sequence[Day], measure: str, place: _Place, bins: int) -> Counts:
    """Return the films by day and bin, (days, bins)."""
    return np.array(
        [np.bincount(place(day.values[measure]), minlength=bins) for day in days], dtype=np.float64
    ).reshape(len(days), bins)


def _windows(counts: Counts) -> Counts:
    """Return the sums over windows of days, one ending on each day from the first full window."""
    total: Counts = np.cumsum(np.vstack([np.zeros(counts.shape[1]), counts]), axis=0)
    windows: Counts = total[WINDOW_DAYS:] - total[:-WINDOW_DAYS]
    return windows


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often model and readers agreed in a week: (right, all)."""

    week: str  # its Monday
    of_pneumonia: tuple[int, int]
    of_normal: tuple[int, int]
