"""What people ask the database of films: their results, and which to try again."""

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
_SCREENING = predictions.c.origin == text("'screening'")  # in the words of the index


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which results are wanted. What is None or False narrows nothing."""

    since: datetime | None = None  # screened then or later
    before: int | None = None  # screened before this scan, by its id
    decision: str | None = None  # NORMAL, PNEUMONIA or REVIEW
    refused: bool = False  # refusals alone
    limit: int = 50


@dataclass(frozen=True, kw_only=True)
class Retriable:
    """A refused scan whose file can go back to the inbox."""

    scan_id: int
    file_name: str
    filed_as: str | None  # None where the film was kept in the inbox
    before: Sequence[int] = ()  # earlier scans of it, whose retry was killed: they name it too


@dataclass(frozen=True, kw_only=True)
class ResultColumn:
    """A column of the view `results`."""

    name: str
    type: str  # timestamp, integer, number, boolean or text
    meaning: str


class Results:
    """Reads only."""

    def __init__(self, database: Database) -> None:
        """Ask `database`."""
        self._database = database

    def find(self, query: Query) -> Iterator[Mapping[str, Any]]:
        """Yield rows of the `results` view, newest first.

        They come page by page, each found by an index from where the last one ended: the first
        row costs the same in a table of any length, and so does the last.

        Raises:
            DatabaseTrouble: the database cannot be asked.
            ScanError: they are to be from before a scan that there is not.
        """
        if query.before is not None:
            with self._database.reading() as connection:
                asked = select(scans.c.id).where(scans.c.id == query.before, _HAS_ENDED)
                if connection.scalar(asked) is None:
                    raise ScanError(f"{query.before}: no scan that was screened has that id")
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
        """Return how many films had which decision, or were REFUSED, on each day of UTC.

        Raises:
            DatabaseTrouble: the database cannot be asked.
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
        """Return rows that a person should look at, most probable first, and how many there are.

        Raises:
            DatabaseTrouble: the database cannot be asked.
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
        """Return how many films were refused, by code.

        Raises:
            DatabaseTrouble: the database cannot be asked.
        """
        with self._database.reading(at_length=True) as connection:
            return refused_since(connection, since)

    def retriable(self, wanted: str) -> list[Retriable]:
        """Return refused scans named by id, file name, or the beginning of their SHA-256.

        Those whose film is there: not those whose film went back to the inbox, or was discarded.

        Raises:
            DatabaseTrouble: the database cannot be asked.
        """
        columns = (scans.c.id, scans.c.file_name, scans.c.filed_as)
        with self._database.reading() as connection:
            asked = [row for row in find_scans(connection, {wanted})[wanted] if _may_go_back(row)]
            # What lies in a place is the newest's of those that name it, whoever was asked for.
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
    """Return the columns of the view `results`, in their order."""
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
    """Whether a scan was refused, and its film is where that left it."""
    there = row["state"] == State.KEPT or (row["state"] == State.FILED and row["filed_as"])
    return bool(row["refusal_code"] and there)


def _page(query: Query) -> Select[int]:
    """Return what selects the ids of a page of results, in their order, by one index."""
    number, at = scans.c.id, scans.c.screened_at
    statement = select(number).where(_HAS_ENDED)
    if query.decision is not None:
        # When a film was predicted is when it was screened.
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
