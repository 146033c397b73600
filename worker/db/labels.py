"""Readers' labels: stored in the database, and returned for training.

A label is never changed. A later label is a new row, and the latest one counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Row, RowMapping, and_, insert, select

from worker.db.engine import Database
from worker.db.lookup import choose_screened, find_scans
from worker.db.schema import State, database_time, labels, scans
from worker.model.manifest import NEGATIVE, POSITIVE
from worker.system.filenames import bytes_of
from worker.system.folders import Folders


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A label to store."""

    scan: str  # id, file name, or beginning of the SHA-256
    label: str  # NORMAL or PNEUMONIA
    reader: str  # who gives the label
    note: str | None = None
    line: int | None = None  # line of the labels file


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a label cannot be stored."""

    scan: str
    why: str
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """The result of storing labels: all scans labelled, or none and the problems."""

    scan_ids: Sequence[int]
    problems: Sequence[Problem]


@dataclass(frozen=True, kw_only=True)
class ReaderLabel:
    """The latest label of a screened film."""

    scan_id: int
    file_name: str
    sha256: str
    label: str
    path: Path  # where the film should be
    filed: bool  # in the archive; else it is where it was screened


class Labels:
    """Readers' labels in the database."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def give(self, asked: Sequence[Asked]) -> Given:
        """Store all these labels, or none if there is a problem, in one transaction.

        A file name or hash that matches several scans of the same bytes labels them all. One that
        matches different films is a problem that lists them.

        Raises:
            DatabaseTrouble: the database failed.
        """
        with self._database.writing() as connection:
            scans_by_name = find_scans(connection, {one.scan for one in asked})
            meant = [(one, _meant(one, scans_by_name[one.scan])) for one in asked]
            problems = [answer for _, answer in meant if isinstance(answer, Problem)]
            chosen = [
                (one, scan_id)
                for one, answer in meant
                if not isinstance(answer, Problem)
                for scan_id in answer
            ]
            problems += _contradictions(chosen)
            if problems:
                in_order = sorted(problems, key=lambda problem: problem.line or 0)
                return Given(scan_ids=(), problems=in_order)
            for one, scan_id in chosen:
                connection.execute(
                    insert(labels).values(
                        scan_id=scan_id,
                        label=one.label,
                        reader=one.reader,
                        note=one.note,
                        said_at=database_time(),
                    )
                )
        return Given(scan_ids=[scan_id for _, scan_id in chosen], problems=())

    def for_training(self, folders: Folders) -> list[ReaderLabel]:
        """Return each labelled film once, with its latest label, by scan id.

        Several scans of the same bytes are one film: the latest label on any of them counts.

        Args:
            folders: of the films. Films that a backfill screened are where it found them.

        Raises:
            DatabaseTrouble: the database failed.
        """
        statement = (
            select(
                *(scans.c.id, scans.c.file_name, scans.c.filed_as, scans.c.sha256, scans.c.state),
                labels.c.label,
            )
            .join(labels, and_(labels.c.scan_id == scans.c.id))
            .where(scans.c.sha256.is_not(None), scans.c.refusal_code.is_(None))
            .order_by(labels.c.id)
        )
        latest: dict[str, str] = {}
        filed: dict[str, Any] = {}
        left: dict[str, Any] = {}
        with self._database.reading() as connection:
            for row in connection.execute(statement):
                latest[row.sha256] = row.label
                if row.filed_as is not None:
                    filed.setdefault(row.sha256, row)
                elif row.state == State.KEPT:
                    left.setdefault(row.sha256, row)
        return sorted(
            (
                ReaderLabel(
                    scan_id=row.id,
                    file_name=row.file_name,
                    sha256=digest,
                    label=latest[digest],
                    path=_path(folders, row),
                    filed=row.filed_as is not None,
                )
                for digest, row in (left | filed).items()
            ),
            key=lambda film: film.scan_id,
        )


def _meant(asked: Asked, rows: Sequence[RowMapping]) -> list[int] | Problem:
    """Return the ids of the scans that match, or the problem."""

    def problem(why: str) -> Problem:
        return Problem(scan=asked.scan, why=why, line=asked.line)

    if asked.label not in (NEGATIVE, POSITIVE):
        return problem(f"the label is {asked.label!r}: it must be {NEGATIVE} or {POSITIVE}")
    if not asked.reader:
        return problem("missing reader: pass --by NAME, or fill the column `reader`")
    read = choose_screened(rows)
    return problem(read) if isinstance(read, str) else [row["id"] for row in read]


def _contradictions(chosen: Iterable[tuple[Asked, int]]) -> list[Problem]:
    """Return a problem for each label that contradicts an earlier one on the same scan."""
    first: dict[int, Asked] = {}
    problems: dict[int | None, Problem] = {}
    for one, scan_id in chosen:
        before = first.setdefault(scan_id, one)
        if before.label != one.label:
            problems[one.line] = Problem(
                scan=one.scan,
                why=f"{one.label}, but line {before.line} gives the same film {before.label}",
                line=one.line,
            )
    return list(problems.values())


def _path(folders: Folders, row: Row[Any]) -> Path:
    if row.filed_as is None:
        # An absolute file name replaces the inbox.
        return Path(folders.inbox, os.fsdecode(bytes_of(row.file_name)))
    day, _, name = row.filed_as.partition("/")
    return Path(folders.archive, day, os.fsdecode(bytes_of(name)))
