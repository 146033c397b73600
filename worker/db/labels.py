"""What readers said of scans: labels put into the database, and handed to the night.

A label is never changed: a later one is a further row, and the latest counts.
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
    """A label as someone asked for it."""

    scan: str  # its id, its file name, or the beginning of its SHA-256
    label: str  # NORMAL or PNEUMONIA
    reader: str  # who says so
    note: str | None = None
    line: int | None = None  # of the file it stands in


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a label cannot be given."""

    scan: str
    why: str
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Given:
    """What became of labels: all given, or none and the problems."""

    scan_ids: Sequence[int]
    problems: Sequence[Problem]


@dataclass(frozen=True, kw_only=True)
class ReaderLabel:
    """The latest label of a screened film."""

    scan_id: int
    file_name: str
    sha256: str
    label: str
    path: Path  # where it should lie
    filed: bool  # in the archive; else where it was screened, as what is kept in the inbox


class Labels:
    """Readers' labels in the database."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def give(self, asked: Sequence[Asked]) -> Given:
        """Give all these labels, or none: one transaction, and nothing where a problem is found.

        A file name or a hash that means several scans of the very same bytes labels them all;
        one that could mean different films is a problem, and lists them.

        Raises:
            DatabaseTrouble: the database cannot be asked.
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
        """Return each film that has a label, once, with the latest, by scan id.

        The same bytes in several scans are one film: the latest label on any of them counts.

        Args:
            folders: where films lie. Those that a backfill screened are where it found them.

        Raises:
            DatabaseTrouble: the database cannot be asked.
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
    """Return the ids of the scans that are meant, or why that cannot be told."""

    def problem(why: str) -> Problem:
        return Problem(scan=asked.scan, why=why, line=asked.line)

    if asked.label not in (NEGATIVE, POSITIVE):
        return problem(f"the label is {asked.label!r}: say {NEGATIVE} or {POSITIVE}")
    if not asked.reader:
        return problem("nobody says so: name the reader")
    read = choose_screened(rows)
    return problem(read) if isinstance(read, str) else [row["id"] for row in read]


def _contradictions(chosen: Iterable[tuple[Asked, int]]) -> list[Problem]:
    """Return what asks for another label of a scan than something before it."""
    first: dict[int, Asked] = {}
    problems: dict[int | None, Problem] = {}
    for one, scan_id in chosen:
        before = first.setdefault(scan_id, one)
        if before.label != one.label:
            problems[one.line] = Problem(
                scan=one.scan,
                why=f"{one.label}, but line {before.line} says {before.label} of the same film",
                line=one.line,
            )
    return list(problems.values())


def _path(folders: Folders, row: Row[Any]) -> Path:
    if row.filed_as is None:
        return Path(
            folders.inbox, os.fsdecode(bytes_of(row.file_name))
        )  # a whole path stands alone
    day, _, name = row.filed_as.partition("/")
    return Path(folders.archive, day, os.fsdecode(bytes_of(name)))
