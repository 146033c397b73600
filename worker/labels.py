"""What readers said of scans: labels put into the database, and handed to the night.

A label is never changed: a later one is a further row, and the latest counts.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, insert, or_, select

from worker.database import Database
from worker.inbox import bytes_of
from worker.model import NEGATIVE, POSITIVE
from worker.schema import State, database_time, labels, scans

_CHUNK = 200  # names looked up in one statement: well under SQLite's limit on bound values
_SHORTEST_PREFIX = 8  # digits of a SHA-256 that tell one film from another
_LISTED = 5  # of the scans that a name could mean, how many are told
_HAVE_A_VERDICT = (State.RECORDED, State.KEPT, State.FILED)


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
    """The latest label of an archived film."""

    scan_id: int
    file_name: str
    sha256: str
    label: str
    path: Path  # where the archive should hold it


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
            found = _find(connection, {one.scan for one in asked})
            meant = [(one, _meant(one, found[one.scan])) for one in asked]
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

    def for_training(self, archive: Path) -> list[ReaderLabel]:
        """Return each archived film that has a label, once, with the latest, by scan id.

        The same bytes in several scans are one film: the latest label on any of them counts.

        Args:
            archive: the folder that films are filed in.

        Raises:
            DatabaseTrouble: the database cannot be asked.
        """
        statement = (
            select(scans.c.id, scans.c.file_name, scans.c.filed_as, scans.c.sha256, labels.c.label)
            .join(labels, and_(labels.c.scan_id == scans.c.id))
            .where(scans.c.sha256.is_not(None), scans.c.refusal_code.is_(None))
            .order_by(labels.c.id)
        )
        latest: dict[str, str] = {}
        filed: dict[str, Any] = {}
        with self._database.reading() as connection:
            for row in connection.execute(statement):
                latest[row.sha256] = row.label
                if row.filed_as is not None:
                    filed.setdefault(row.sha256, row)
        return sorted(
            (
                ReaderLabel(
                    scan_id=row.id,
                    file_name=row.file_name,
                    sha256=digest,
                    label=latest[digest],
                    path=_path(archive, row.filed_as),
                )
                for digest, row in filed.items()
            ),
            key=lambda film: film.scan_id,
        )


def _find(connection: Connection, names: set[str]) -> dict[str, list[RowMapping]]:
    """Return the scans that each name could mean, in order of their ids."""
    found: dict[str, list[RowMapping]] = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), _CHUNK):
        found |= _find_chunk(connection, ordered[start : start + _CHUNK])
    return found


def _find_chunk(connection: Connection, names: Sequence[str]) -> dict[str, list[RowMapping]]:
    prefixes = [name.lower() for name in names if _is_prefix(name)]
    statement = (
        select(
            scans.c.id,
            scans.c.file_name,
            scans.c.sha256,
            scans.c.state,
            scans.c.refusal_code,
        )
        .where(
            or_(
                scans.c.file_name.in_(names),
                scans.c.id.in_([int(name) for name in names if _is_id(name)]),
                # "g" sorts behind every hexadecimal digit; so put, an index serves.
                *(scans.c.sha256.between(prefix, f"{prefix}g") for prefix in prefixes),
            )
        )
        .order_by(scans.c.id)
    )
    rows = connection.execute(statement).mappings().all()
    by_name: dict[str, list[RowMapping]] = defaultdict(list)
    by_id: dict[int, RowMapping] = {}
    for row in rows:
        by_name[row["file_name"]].append(row)
        by_id[row["id"]] = row
    found: dict[str, list[RowMapping]] = {}
    for name in names:
        hits = {row["id"]: row for row in by_name[name]}
        if _is_id(name) and int(name) in by_id:
            hits[int(name)] = by_id[int(name)]
        if _is_prefix(name):
            hits |= {
                row["id"]: row for row in rows if (row["sha256"] or "").startswith(name.lower())
            }
        found[name] = [hits[scan_id] for scan_id in sorted(hits)]
    return found


def _is_id(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 19


def _is_prefix(name: str) -> bool:
    return len(name) >= _SHORTEST_PREFIX and set(name.lower()) <= set("0123456789abcdef")


def _meant(asked: Asked, rows: Sequence[RowMapping]) -> list[int] | Problem:
    """Return the ids of the scans that are meant, or why that cannot be told."""

    def problem(why: str) -> Problem:
        return Problem(scan=asked.scan, why=why, line=asked.line)

    if asked.label not in (NEGATIVE, POSITIVE):
        return problem(f"the label is {asked.label!r}: say {NEGATIVE} or {POSITIVE}")
    if not asked.reader:
        return problem("nobody says so: name the reader")
    read = [row for row in rows if row["state"] in _HAVE_A_VERDICT and not row["refusal_code"]]
    if not read:
        refused = [row for row in rows if row["refusal_code"]]
        if refused:
            return problem(f"scan {refused[-1]['id']} was refused ({refused[-1]['refusal_code']})")
        return problem(
            "is not screened yet" if rows else "no scan of that id, file name or SHA-256"
        )
    if len({row["sha256"] for row in read}) > 1:
        more = f", and {len(read) - _LISTED} more" if len(read) > _LISTED else ""
        could = ", ".join(
            f"scan {row['id']} ({row['file_name']}, {row['sha256'][:12]})" for row in read[:_LISTED]
        )
        return problem(f"could be {could}{more}: name one by its id or SHA-256")
    return [row["id"] for row in read]


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


def _path(archive: Path, filed_as: str) -> Path:
    day, _, name = filed_as.partition("/")
    return archive / day / os.fsdecode(bytes_of(name))
