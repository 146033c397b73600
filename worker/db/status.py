"""The status from the rows: workers, films in hand, and today's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select, text

from worker.db.engine import Database
from worker.db.schema import NOBODY, State, database_time, in_hand, predictions, scans, workers
from worker.model.decision import REVIEW
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.types import Report, WorkerReport, read_report

# A worker without a beat for this long counts as dead.
SILENT_SECONDS = 30.0
_SCREENING = predictions.c.origin == text("'screening'")  # the text of the index's predicate


@dataclass(frozen=True, kw_only=True)
class WorkerStatus:
    """A worker as of its last beat."""

    name: str
    alive: bool
    beat_seconds_ago: float
    report: Report


@dataclass(frozen=True, kw_only=True)
class Status:
    """The status from the rows."""

    workers: Sequence[WorkerStatus]  # not stopped, newest first
    claimed: int
    offered: int  # on offer to any worker with room
    recorded: int  # durable, file not yet moved
    screened_today: int  # UTC
    refused_today: Mapping[str, int]  # by code
    decisions_today: Mapping[str, int]
    last_hour: int  # screened or refused
    last_screened_at: datetime | None

    @property
    def is_well(self) -> bool:
        """Whether a worker is alive, and none that is alive has trouble."""
        reports = [one.report for one in self.workers if one.alive]
        watching = [one for one in reports if isinstance(one, WorkerReport)]
        return bool(watching) and not any(one.trouble or one.model_refused for one in watching)


def read_status(database: Database) -> Status:
    """Return the status.

    Raises:
        DatabaseTrouble: the database failed.
    """
    with database.reading() as connection:
        now: datetime = connection.scalar(select(database_time())) or datetime.now(UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        claimed, recorded = (
            _count(connection, in_hand(state)) for state in (State.CLAIMED, State.RECORDED)
        )
        offered = _count(connection, in_hand(State.CLAIMED), scans.c.worker == NOBODY)
        refused = refused_since(connection, today)
        decisions = {
            decision: count
            for decision in (NEGATIVE, POSITIVE, REVIEW)  # each uses one range of an index
            if (count := connection.scalar(_decided_since(decision, today)))
        }
        hour_ago = now - timedelta(hours=1)
        last_hour = _count(connection, scans.c.screened_at >= hour_ago)
        return Status(
            workers=_workers(connection, now),
            claimed=claimed - offered,
            offered=offered,
            recorded=recorded,
            screened_today=sum(decisions.values()),
            refused_today=refused,
            decisions_today=decisions,
            last_hour=last_hour,
            last_screened_at=connection.scalar(select(func.max(scans.c.screened_at))),
        )


def _decided_since(decision: str, moment: datetime) -> Select[int]:
    return (
        select(func.count())
        .select_from(predictions)
        .where(
            _SCREENING,
            predictions.c.decision == decision,
            predictions.c.predicted_at >= moment,
        )
    )


def _count(connection: Connection, *which: ColumnElement[bool]) -> int:
    return connection.scalar(select(func.count()).select_from(scans).where(*which)) or 0


def refused_since(connection: Connection, moment: datetime) -> dict[str, int]:
    """Return the number of films refused, by code."""
    return _counted(
        connection,
        select(scans.c.refusal_code, func.count())
        .where(scans.c.screened_at >= moment, scans.c.refusal_code.is_not(None))
        .group_by(scans.c.refusal_code),
    )


def _counted(connection: Connection, statement: Select[Any]) -> dict[str, int]:
    return {str(key): int(count) for key, count in connection.execute(statement)}


def _workers(connection: Connection, now: datetime) -> list[WorkerStatus]:
    rows = connection.execute(
        select(workers).where(workers.c.stopped_at.is_(None)).order_by(workers.c.beat_at.desc())
    )
    return [
        WorkerStatus(
            name=row.name,
            # A beat in the future is from before the clock was set back.
            alive=abs(ago := (now - row.beat_at).total_seconds()) <= SILENT_SECONDS,
            beat_seconds_ago=round(ago, 1),
            report=read_report(row.report),
        )
        for row in rows
    ]
