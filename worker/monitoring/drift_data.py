"""What drift is looked for in: the rows, day by day. Read only.

Films of an archive, screened where they lie, are no part of it: they say nothing of what arrives.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Row, func, select

from worker.db.engine import Database
from worker.db.schema import Origin, date_of, is_below, predictions, results, scans
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

_LATEST_DAYS = 90  # with films, that are looked at at most
_DECISIONS = {NEGATIVE: 0.0, POSITIVE: 1.0, REVIEW: 2.0}
_REFUSED = 3.0
_MEASURES = ("decision", "score", "strangeness", "megapixels", "contrast", "encoding")


def look_for_drift(
    database: Database, version: str, *, now: datetime | None = None
) -> tuple[list[Finding], str]:
    """Compare the last week of films that a model screened with the first weeks.

    Args:
        database: to ask.
        version: of the model.
        now: the day that this is on is not over, and counts among no days; the present by default.

    Returns:
        A finding for each measure, and why there is none; "" where there are findings.

    Raises:
        DatabaseTrouble: the database cannot be asked.
    """
    today = (now or datetime.now(UTC)).date().isoformat()
    counts = _films_by_day(database, version)
    days = sorted(day for day in counts if day < today)
    reference, later = days[:REFERENCE_DAYS], days[REFERENCE_DAYS:]
    films = sum(counts[day] for day in reference)
    if len(reference) < LEAST_DAYS or films < LEAST_FILMS:
        return [], (
            f"{version} has screened {films:,} films on {len(reference)} days here: there is "
            f"something to compare with from {LEAST_FILMS} films on {LEAST_DAYS} days on"
        )
    if len(later) < WINDOW_DAYS:
        return [], (
            f"the first {len(reference)} days of {version} are what later ones are compared with, "
            f"and of those there are {len(later)}: {WINDOW_DAYS} are needed"
        )
    before = _days(database, version, reference)
    return find_drift(before, _days(database, version, later[-_LATEST_DAYS:])), ""


def agreement(database: Database, version: str, *, weeks: int) -> list[Agreement]:
    """Return how often a model and readers agreed, by the week of screening, oldest first.

    Raises:
        DatabaseTrouble: the database cannot be asked.
    """
    day = date_of(results.c.screened_at)
    statement = (
        select(day, results.c.reader_label, results.c.label, func.count())
        .where(results.c.model_version == version, results.c.reader_label.is_not(None))
        .group_by(day, results.c.reader_label, results.c.label)
    )
    found: dict[str, Counter[tuple[str, bool]]] = defaultdict(Counter)
    with database.reading(at_length=True) as connection:
        for date, reader, said, count in connection.execute(statement):
            moment = datetime.fromisoformat(date)
            monday = (moment - timedelta(days=moment.weekday())).date().isoformat()
            found[monday][reader, reader == said] += count
    return [
        Agreement(week=week, of_pneumonia=_share(of, POSITIVE), of_normal=_share(of, NEGATIVE))
        for week, of in sorted(found.items())[-weeks:]
    ]


def _share(counts: Counter[tuple[str, bool]], label: str) -> tuple[int, int]:
    right = counts[label, True]
    return right, right + counts[label, False]


def _films_by_day(database: Database, version: str) -> dict[str, int]:
    """Return how many films a model predicted on each day; 0 where all that came were refused."""
    day = date_of(predictions.c.predicted_at)
    statement = (
        select(day, func.count())
        .join(scans, scans.c.id == predictions.c.scan_id)
        .where(
            predictions.c.model_version == version,
            predictions.c.origin == Origin.SCREENING.value,
            ~is_below("/"),
        )
        .group_by(day)
    )
    with database.reading(at_length=True) as connection:
        counts = {str(date): int(count) for date, count in connection.execute(statement)}
        for refused in days_of_refusals(connection, since=min(counts)) if counts else []:
            if refused not in counts and last_before(connection, refused) == version:
                counts[refused] = 0
    return counts


def days_of_refusals(connection: Connection, *, since: str) -> list[str]:
    """Return the days, from one on, on which a film was refused."""
    day = date_of(scans.c.screened_at)
    statement = select(day).distinct().where(*_refused_from(_begin_of(since)))
    return [str(date) for (date,) in connection.execute(statement)]


def last_before(connection: Connection, day: str) -> str | None:
    """Return the model that predicted last before a day: a refusal does not name its own."""
    statement = (
        select(predictions.c.model_version)
        .join(scans, scans.c.id == predictions.c.scan_id)
        .where(
            predictions.c.origin == Origin.SCREENING.value,
            scans.c.screened_at < _begin_of(day),
            ~is_below("/"),
        )
        .order_by(scans.c.screened_at.desc(), scans.c.id.desc())
        .limit(1)
    )
    return connection.execute(statement).scalar_one_or_none()


def _begin_of(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _refused_from(begin: datetime) -> tuple[ColumnElement[bool], ...]:
    return scans.c.refusal_code.is_not(None), scans.c.screened_at >= begin, ~is_below("/")


def _days(database: Database, version: str, days: Sequence[str]) -> list[Day]:
    """Return what came on these days, in their order; of days between them nothing."""
    begin, end = _begin_of(days[0]), _begin_of(days[-1]) + timedelta(days=1)
    taken: dict[str, list[Sequence[float]]] = {day: [] for day in days}
    of_model = (
        select(
            date_of(predictions.c.predicted_at).label("day"),
            predictions.c.decision,
            predictions.c.logit,
            predictions.c.strangeness,
            scans.c.width,
            scans.c.height,
            scans.c.contrast,
            scans.c.encoding,
        )
        .join(scans, scans.c.id == predictions.c.scan_id)
        .where(
            predictions.c.model_version == version,
            predictions.c.origin == Origin.SCREENING.value,
            predictions.c.predicted_at >= begin,
            predictions.c.predicted_at < end,
            ~is_below("/"),
        )
    )
    refused = select(date_of(scans.c.screened_at)).where(
        *_refused_from(begin), scans.c.screened_at < end
    )
    with database.reading(at_length=True) as connection:
        for film in connection.execute(of_model):
            if film.day in taken:
                decision = _DECISIONS.get(film.decision, math.nan)
                taken[film.day].append((decision, *_measured(film)))
        for (date,) in connection.execute(refused):
            if date in taken:
                taken[date].append((_REFUSED, *([math.nan] * (len(_MEASURES) - 1))))
    found = []
    for day in days:
        columns = np.array(taken[day], dtype=np.float64).reshape(-1, len(_MEASURES)).T
        # A refused film is told by its decision; of the rest it has nothing to say.
        met = columns[0] != _REFUSED
        of_each = {name: column[met] for name, column in zip(_MEASURES, columns, strict=True)}
        found.append(Day(day=day, values={**of_each, "decision": columns[0]}))
    return found


def _measured(film: Row[Any]) -> tuple[float, ...]:
    """Return a film's measures as `_MEASURES` has them, but for the decision."""
    size = None if film.width is None or film.height is None else film.width * film.height / 1e6
    written_by = None if film.encoding is None else float(int(film.encoding, 16))
    measured = (film.logit, film.strangeness, size, film.contrast, written_by)
    return tuple(math.nan if one is None else one for one in measured)
