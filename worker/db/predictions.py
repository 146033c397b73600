"""Archived films and their predictions: the queries of `rescore` and `explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.db.engine import Database
from worker.db.lookup import choose_screened, find_scans
from worker.db.schema import Origin, State, database_time, predictions, scans
from worker.errors import ScanError
from worker.model.decision import Verdict
from worker.model.manifest import Manifest

_PAGE = 400  # films read from the database at a time


@dataclass(frozen=True, kw_only=True)
class Archived:
    """A film that was screened and still exists."""

    scan_id: int
    sha256: str
    place: str  # path below its folder, as `filenames.spell` writes it
    in_inbox: bool  # kept in the inbox, or `place` is an absolute path


@dataclass(frozen=True, kw_only=True)
class VersionPrediction:
    """A model version's prediction of a film."""

    version: str
    logit: float
    probability: float
    threshold: float
    label: str
    decision: str
    review_reason: str | None
    on_record: bool  # stored in a row


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which archived films to select."""

    without: str | None = None  # films without a prediction of this version
    since: datetime | None = None  # screened then or later
    limit: int | None = None  # at most this many, the newest


class ArchivedFilms:
    """Archived films. Every method raises `DatabaseTrouble` if the database fails."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def count(self, selection: Selection) -> int:
        """Return the number of films selected."""
        statement = select(func.count()).select_from(_wanted(selection).subquery())
        with self._database.reading() as connection:
            count = connection.scalar(statement) or 0
        return count if selection.limit is None else min(count, selection.limit)

    def films(self, selection: Selection) -> Iterator[Archived]:
        """Yield the films, newest first, page by page."""
        left, below = selection.limit, None
        while left is None or left > 0:
            statement = _wanted(selection).order_by(scans.c.id.desc())
            if below is not None:
                statement = statement.where(scans.c.id < below)
            size = _PAGE if left is None else min(_PAGE, left)
            with self._database.reading() as connection:
                rows = connection.execute(statement.limit(size)).all()
            for row in rows:
                in_inbox = row.state == State.KEPT
                yield Archived(
                    scan_id=row.id,
                    sha256=row.sha256,
                    place=row.file_name if in_inbox else row.filed_as,
                    in_inbox=in_inbox,
                )
            if len(rows) < size:
                return
            left, below = None if left is None else left - size, rows[-1].id

    def find(self, wanted: str) -> Archived:
        """Return the screened film that matches; the newest scan if several have the same bytes.

        Args:
            wanted: a scan's id, its file name, or the beginning of its SHA-256.

        Raises:
            ScanError: none matches, different films match, or it was refused.
        """
        with self._database.reading() as connection:
            rows = choose_screened(find_scans(connection, {wanted})[wanted])
        if isinstance(rows, str):
            raise ScanError(f"{wanted}: {rows}")
        row = max(rows, key=lambda row: (row["filed_as"] is not None, row["id"]))
        filed = row["state"] == State.FILED
        if filed and row["filed_as"] is None:
            raise ScanError(
                f"scan {row['id']}: its film is gone: discarded, or lost before it was filed"
            )
        return Archived(
            scan_id=row["id"],
            sha256=row["sha256"],
            place=row["filed_as"] if filed else row["file_name"],
            in_inbox=not filed,
        )

    def prediction(self, scan_id: int, version: str | None) -> VersionPrediction | None:
        """Return a version's prediction of a scan, or the screening's if `version` is None."""
        statement = select(predictions).where(predictions.c.scan_id == scan_id)
        if version is None:
            statement = statement.where(predictions.c.origin == Origin.SCREENING)
        else:
            statement = statement.where(predictions.c.model_version == version)
        with self._database.reading() as connection:
            row = connection.execute(statement).one_or_none()
        if row is None:
            return None
        return VersionPrediction(
            version=row.model_version,
            logit=row.logit,
            probability=row.probability,
            threshold=row.threshold,
            label=row.label,
            decision=row.decision,
            review_reason=row.review_reason,
            on_record=True,
        )

    def record(self, verdicts: Sequence[tuple[int, Verdict]], manifest: Manifest) -> None:
        """Store a version's predictions by scan id, unless it has predicted the scan before."""
        if not verdicts:
            return
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = insert(predictions).values(predicted_at=database_time())
        statement = statement.on_conflict_do_nothing(index_elements=["scan_id", "model_version"])
        with self._database.writing() as connection:
            connection.execute(
                statement, [_row(scan_id, verdict, manifest) for scan_id, verdict in verdicts]
            )


def _wanted(selection: Selection) -> Select[Any]:
    filed = and_(scans.c.state == State.FILED, scans.c.filed_as.is_not(None))
    statement = select(
        scans.c.id, scans.c.sha256, scans.c.file_name, scans.c.filed_as, scans.c.state
    ).where(
        or_(filed, scans.c.state == State.KEPT),
        scans.c.refusal_code.is_(None),
        scans.c.sha256.is_not(None),
    )
    if selection.since is not None:
        statement = statement.where(scans.c.screened_at >= selection.since)
    if selection.without is not None:
        predicted = exists().where(
            predictions.c.scan_id == scans.c.id,
            predictions.c.model_version == selection.without,
        )
        statement = statement.where(~predicted)
    return statement


def _row(scan_id: int, verdict: Verdict, manifest: Manifest) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        "model_version": manifest.version,
        "preprocessing_version": manifest.preprocessing_version,
        "origin": Origin.RESCORE.value,
        "logit": verdict.logit,
        "probability": verdict.probability,
        "label": verdict.label,
        "confidence": verdict.confidence,
        "decision": verdict.decision,
        "review_reason": None if verdict.review_reason is None else verdict.review_reason.value,
        "threshold": verdict.threshold,
        "strangeness": verdict.strangeness,
        "prevalence": verdict.prevalence,
    }
