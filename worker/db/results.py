"""Queries on the view `results`, and refused films that can be retried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    RowMapping,
    Select,
    Text,
    false,
    func,
    literal,
    or_,
    select,
    text,
)

from worker.db.engine import Database
from worker.db.lookup import find_scans
from worker.db.schema import (
    State,
    Utc,
    date_of,
    predictions,
    results,
    scans,
)
from worker.db.status import refused_since
from worker.errors import ScanError
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE

_PAGE = 500  # rows at a time
_HAS_ENDED = scans.c.state.in_([State.RECORDED, State.KEPT, State.FILED])
_SCREENING = predictions.c.origin == text("'screening'")  # the text of the index's predicate


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which results are wanted. None and False do not filter."""

    since: datetime | None = None  # screened then or later
    before: int | None = None  # screened before this scan, by its id
    decision: str | None = None  # NORMAL, PNEUMONIA or REVIEW
    refused: bool = False  # only refusals
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class Retriable:
    """A refused scan whose file can go back to the inbox."""

    scan_id: int
    file_name: str
    filed_as: str | None  # None if the film was kept in the inbox
    before: Sequence[int] = ()  # earlier scans of the file whose retry was killed


@dataclass(frozen=True, kw_only=True)
class ResultColumn:
    """A column of the view `results`."""

    name: str
    type: str  # timestamp, integer, number, boolean or text
    meaning: str


class Results:
    """Queries of results. They only read."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def find(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """Yield rows of the `results` view, newest first.

        Rows are read in pages. An index finds each page from the end of the last one, so a page
        costs the same in a table of any length.

        Raises:
            DatabaseTrouble: the database failed.
            ScanError: `query.before` is not the id of a screened scan.
        """
        if query.before is not None:
            with self._database.reading() as connection:
                asked = select(scans.c.id).where(scans.c.id == query.before, _HAS_ENDED)
                if connection.scalar(asked) is None:
                    raise ScanError(f"{query.before}: there is no screened scan with this id")
        return self._pages(query)

    def _pages(self, query: Query) -> Iterator[Mapping[str, Any]]:
        left, before = query.limit, query.before
        while left > 0:
            page = min(left, _PAGE)
            with self._database.reading() as connection:
                ids = connection.scalars(_page(replace(query, before=before, limit=page))).all()
                page_rows = connection.execute(select(results).where(results.c.scan_id.in_(ids)))
                rows = {row["scan_id"]: dict(row) for row in page_rows.mappings()}
            yield from (rows[scan_id] for scan_id in ids if scan_id in rows)
            if len(ids) < page:
                return
            left, before = left - page, ids[-1]

    def by_day(self, since: datetime) -> list[tuple[str, str, int]]:
        """Return (day, decision or REFUSED, number of films) by UTC day.

        Raises:
            DatabaseTrouble: the database failed.
        """
        decided, refused = date_of(predictions.c.predicted_at), date_of(scans.c.screened_at)
        questions = (
            select(decided, predictions.c.decision, func.count())
            .where(
                _SCREENING,
                predictions.c.decision.in_([NEGATIVE, POSITIVE, REVIEW]),
                predictions.c.predicted_at >= since,
            )
            .group_by(decided, predictions.c.decision),
            select(refused, literal("REFUSED"), func.count())
            .where(scans.c.screened_at >= since, scans.c.refusal_code.is_not(None))
            .group_by(refused),
        )
        with self._database.reading(at_length=True) as connection:
            return [
                (str(day), str(what), int(count))
                for question in questions
                for day, what, count in connection.execute(question)
            ]

    def worklist(self, since: datetime, *, limit: int) -> tuple[list[Mapping[str, Any]], int]:
        """Return rows to look at, most probable first, and how many there are in all.

        Raises:
            DatabaseTrouble: the database failed.
        """
        wanted = (
            _SCREENING,
            predictions.c.decision.in_([POSITIVE, REVIEW]),
            predictions.c.predicted_at >= since,
        )
        worst = select(predictions.c.scan_id).where(*wanted)
        worst = worst.order_by(predictions.c.probability.desc(), predictions.c.scan_id).limit(limit)
        with self._database.reading(at_length=True) as connection:
            ids = connection.scalars(worst).all()
            listed = connection.execute(select(results).where(results.c.scan_id.in_(ids)))
            rows = {row["scan_id"]: dict(row) for row in listed.mappings()}
            count = select(func.count()).select_from(predictions).where(*wanted)
            return [rows[scan_id] for scan_id in ids], connection.scalar(count) or 0

    def refusals(self, since: datetime) -> dict[str, int]:
        """Return the number of films refused, by code.

        Raises:
            DatabaseTrouble: the database failed.
        """
        with self._database.reading(at_length=True) as connection:
            return refused_since(connection, since)

    def retriable(self, wanted: str) -> list[Retriable]:
        """Return refused scans that match an id, file name, or beginning of a SHA-256.

        Scans whose film went back to the inbox or was discarded are left out.

        Raises:
            DatabaseTrouble: the database failed.
        """
        columns = (scans.c.id, scans.c.file_name, scans.c.filed_as)
        with self._database.reading() as connection:
            asked = [row for row in find_scans(connection, {wanted})[wanted] if _may_go_back(row)]
            # Where several scans name one place, the file there belongs to the newest of them.
            others = connection.execute(
                select(*columns).where(
                    scans.c.refusal_code.is_not(None),
                    scans.c.state == State.FILED,
                    scans.c.file_name.in_({row["file_name"] for row in asked}),
                    scans.c.filed_as.in_({row["filed_as"] for row in asked if row["filed_as"]}),
                )
            ).all()
        named = {row["id"]: (row["file_name"], row["filed_as"]) for row in asked}
        named |= {row.id: (row.file_name, row.filed_as) for row in others}
        by_place: dict[object, Retriable] = {}
        for scan_id, (file_name, filed_as) in sorted(named.items()):
            place = filed_as or scan_id
            other = by_place.pop(place, None)
            by_place[place] = Retriable(
                scan_id=scan_id,
                file_name=file_name,
                filed_as=filed_as,
                before=() if other is None else (*other.before, other.scan_id),
            )
        return list(by_place.values())


def result_columns() -> list[ResultColumn]:
    """Return the columns of the view `results`, in order."""
    return [
        ResultColumn(name=column.name, type=_type_of(column), meaning=column.comment or "")
        for column in results.columns
    ]


def _type_of(column: Column[Any]) -> str:
    for kind, name in (
        (Utc, "timestamp"),
        (BigInteger, "integer"),
        (Double, "number"),
        (Boolean, "boolean"),
        (Text, "text"),
    ):
        if isinstance(column.type, kind):
            return name
    raise TypeError(f"{column.name}: no name for {column.type}")


def _may_go_back(row: RowMapping) -> bool:
    """Whether a scan was refused and its film is still where it was filed."""
    there = row["state"] == State.KEPT or (row["state"] == State.FILED and row["filed_as"])
    return bool(row["refusal_code"] and there)


def _page(query: Query) -> Select[int]:
    """Return a query for the ids of a page of results, in order, that uses one index."""
    number, at = scans.c.id, scans.c.screened_at
    statement = select(number).where(_HAS_ENDED)
    if query.decision is not None:
        # A film is predicted and screened at the same time.
        number, at = predictions.c.scan_id, predictions.c.predicted_at
        statement = select(number).where(_SCREENING, predictions.c.decision == query.decision)
    if query.refused:
        refused = scans.c.refusal_code.is_not(None)
        statement = statement.where(refused if query.decision is None else false())
    if query.since is not None:
        statement = statement.where(at >= query.since)
    if query.before is not None:
        decided = select(predictions.c.predicted_at).where(
            _SCREENING, predictions.c.scan_id == query.before
        )
        screened = select(scans.c.screened_at).where(scans.c.id == query.before)
        last = func.coalesce(decided.scalar_subquery(), screened.scalar_subquery(), type_=Utc())
        statement = statement.where(at <= last, or_(at < last, number < query.before))
    return statement.order_by(at.desc(), number.desc()).limit(query.limit)
