"""Daily figures from the rows: films, their measurements, refusals and readers' labels.

Films that a backfill screened in place are left out: they do not arrive at the inbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, func, select

from worker.db.engine import Database
from worker.db.schema import Origin, date_of, is_below, predictions, results, scans


@dataclass(frozen=True, kw_only=True)
class MeasuredFilm:
    """A film's prediction and measurements."""

    day: str  # UTC date of its screening
    decision: str
    logit: float
    strangeness: float | None
    width: int | None  # pixels, as stored
    height: int | None
    contrast: float | None  # grey levels
    encoding: str | None  # the writer of the file, 8 hex digits


@dataclass(frozen=True, kw_only=True)
class LabelledFilms:
    """The number of films of one day with one reader's label and one model's label."""

    day: str
    reader_label: str
    label: str
    count: int


def films_by_day(database: Database, version: str) -> dict[str, int]:
    """Return the number of films a model predicted on each day; 0 if all films were refused."""
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
    """Return the days since `since` on which a film was refused."""
    day = date_of(scans.c.screened_at)
    statement = select(day).distinct().where(*_refused_from(_begin_of(since)))
    return [str(date) for (date,) in connection.execute(statement)]


def last_before(connection: Connection, day: str) -> str | None:
    """Return the model that predicted last before a day, because refusals name no model."""
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


def measured_films(
    database: Database, version: str, *, first: str, last: str
) -> Iterator[MeasuredFilm]:
    """Yield the films that a model predicted from `first` to `last`, both included."""
    statement = (
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
            predictions.c.predicted_at >= _begin_of(first),
            predictions.c.predicted_at < _begin_of(last) + timedelta(days=1),
            ~is_below("/"),
        )
    )
    with database.reading(at_length=True) as connection:
        for row in connection.execute(statement).mappings():
            yield MeasuredFilm(**row)


def refused_films(database: Database, *, first: str, last: str) -> Iterator[str]:
    """Yield the day of refusal of each film refused from `first` to `last`, both included."""
    end = _begin_of(last) + timedelta(days=1)
    statement = select(date_of(scans.c.screened_at)).where(
        *_refused_from(_begin_of(first)), scans.c.screened_at < end
    )
    with database.reading(at_length=True) as connection:
        for (day,) in connection.execute(statement):
            yield str(day)


def labelled_films(database: Database, version: str) -> list[LabelledFilms]:
    """Return counts of films that a model predicted and a reader labelled, by day and labels."""
    day = date_of(results.c.screened_at)
    columns = (day, results.c.reader_label, results.c.label)
    statement = (
        select(*columns, func.count())
        .where(results.c.model_version == version, results.c.reader_label.is_not(None))
        .group_by(*columns)
    )
    with database.reading(at_length=True) as connection:
        return [
            LabelledFilms(day=str(date), reader_label=reader, label=label, count=int(count))
            for date, reader, label, count in connection.execute(statement)
        ]


def _begin_of(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _refused_from(begin: datetime) -> tuple[ColumnElement[bool], ...]:
    return scans.c.refusal_code.is_not(None), scans.c.screened_at >= begin, ~is_below("/")
