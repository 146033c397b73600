"""Reads the data for drift from the rows, day by day.

Films that a backfill screened in place are left out: they do not arrive at the inbox.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np

from worker.db.daily import (
    MeasuredFilm,
    films_by_day,
    labelled_films,
    measured_films,
    refused_films,
)
from worker.db.engine import Database
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.monitoring.drift import (
    LEAST_DAYS,
    LEAST_FILMS,
    REFERENCE_DAYS,
    WINDOW_DAYS,
    Agreement,
    Day,
    Finding,
    find_drift,
)

_LATEST_DAYS = 90  # at most, of later days with films
_DECISIONS = {NEGATIVE: 0.0, POSITIVE: 1.0, REVIEW: 2.0}
_REFUSED = 3.0
_MEASURES = ("decision", "score", "strangeness", "megapixels", "contrast", "encoding")


def look_for_drift(
    database: Database, version: str, *, now: datetime | None = None
) -> tuple[list[Finding], str]:
    """Compare the last week of films that a model screened with its first weeks.

    Args:
        database: with the rows.
        version: of the model.
        now: this day is not over and does not count; by default the present.

    Returns:
        A finding for each measure, and "" or the reason why there are none.

    Raises:
        DatabaseTrouble: the database failed.
    """
    today = (now or datetime.now(UTC)).date().isoformat()
    counts = films_by_day(database, version)
    days = sorted(day for day in counts if day < today)
    reference, later = days[:REFERENCE_DAYS], days[REFERENCE_DAYS:]
    films = sum(counts[day] for day in reference)
    if len(reference) < LEAST_DAYS or films < LEAST_FILMS:
        return [], (
            f"{version} has screened {films:,} films on {len(reference)} days here; at least "
            f"{LEAST_FILMS} films on {LEAST_DAYS} days are needed"
        )
    if len(later) < WINDOW_DAYS:
        return [], (
            f"the first {len(reference)} days of {version} are the reference; after them there are "
            f"{len(later)} days with films, and {WINDOW_DAYS} are needed"
        )
    before = _days(database, version, reference)
    return find_drift(before, _days(database, version, later[-_LATEST_DAYS:])), ""


def agreement(database: Database, version: str, *, weeks: int) -> list[Agreement]:
    """Return how often a model and readers agreed, by the week of screening, oldest first.

    Raises:
        DatabaseTrouble: the database failed.
    """
    by_week: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    for films in labelled_films(database, version):
        moment = datetime.fromisoformat(films.day)
        monday = (moment - timedelta(days=moment.weekday())).date().isoformat()
        by_week[monday][films.reader_label, films.reader_label == films.label] += films.count
    return [
        Agreement(week=week, of_pneumonia=_share(of, POSITIVE), of_normal=_share(of, NEGATIVE))
        for week, of in sorted(by_week.items())[-weeks:]
    ]


def _share(counts: Counter[tuple[str, bool]], label: str) -> tuple[int, int]:
    right = counts[label, True]
    return right, right + counts[label, False]


def _days(database: Database, version: str, days: Sequence[str]) -> list[Day]:
    """Return the films of these days, in order."""
    taken: dict[str, list[Sequence[float]]] = {day: [] for day in days}
    for film in measured_films(database, version, first=days[0], last=days[-1]):
        if film.day in taken:
            decision = _DECISIONS.get(film.decision, math.nan)
            taken[film.day].append((decision, *_measured(film)))
    for refused_on in refused_films(database, first=days[0], last=days[-1]):
        if refused_on in taken:
            taken[refused_on].append((_REFUSED, *([math.nan] * (len(_MEASURES) - 1))))
    measured = []
    for day in days:
        columns = np.array(taken[day], dtype=np.float64).reshape(-1, len(_MEASURES)).T
        # Of a refused film only the decision counts.
        met = columns[0] != _REFUSED
        of_each = {name: column[met] for name, column in zip(_MEASURES, columns, strict=True)}
        measured.append(Day(day=day, values={**of_each, "decision": columns[0]}))
    return measured


def _measured(film: MeasuredFilm) -> tuple[float, ...]:
    """Return a film's measures in the order of `_MEASURES`, without the decision."""
    size = None if film.width is None or film.height is None else film.width * film.height / 1e6
    written_by = None if film.encoding is None else float(int(film.encoding, 16))
    measured = (film.logit, film.strangeness, size, film.contrast, written_by)
    return tuple(math.nan if one is None else one for one in measured)
