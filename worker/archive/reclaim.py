"""Archived and refused files that no row names, as after a database restored from a backup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, select

from worker.db.engine import Database
from worker.db.schema import State, in_hand, scans
from worker.errors import StorageTrouble
from worker.inbox.folders import Inbox
from worker.system.filenames import is_passed_over, spell

_CHUNK = 400  # names in one statement: well under SQLite's limit on bound values
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def unnamed(database: Database, inbox: Inbox) -> Iterator[Path]:
    """Yield the files in the archive and refused folders that no row names, by day.

    JSON that lies beside refused files is no film. While a film is recorded and not yet filed, its
    row does not say where it lies: then nothing can be told.

    Raises:
        DatabaseTrouble: the database cannot be asked.
        StorageTrouble: a folder cannot be listed, or films are being filed.
    """
    with database.reading() as connection:
        if _is_filing(connection):
            raise _cannot_tell()
    for root in (inbox.archive, inbox.refused):
        try:
            days = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        except OSError as error:
            raise StorageTrouble(f"{root} cannot be listed: {error.strerror}") from error
        for day in filter(_is_day, days):
            yield from _unnamed_of(database, root / day, refused=root == inbox.refused)


def _is_day(name: str) -> bool:
    try:
        return _DAY.fullmatch(name) is not None and bool(date.fromisoformat(name))
    except ValueError:
        return False


def _unnamed_of(database: Database, folder: Path, *, refused: bool) -> Iterator[Path]:
    # In this order, for a worker may go on filing: a film that is listed was recorded before, and
    # if no row is only recorded any more, the film's says by now where it lies.
    films = list(_films(folder))
    with database.reading() as connection:
        filing = _is_filing(connection)
        known = _places(connection, folder.name)
        left = [name for name, _ in films if f"{folder.name}/{name}" not in known]
        kept = _kept(connection, folder.resolve(), left)
    for name, path in films:
        beside = refused and name.endswith(".json")
        if not beside and f"{folder.name}/{name}" not in known and name not in kept:
            if filing:
                raise _cannot_tell()
            yield path


def _films(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files in a folder that could be films: names as rows spell them, and paths."""
    try:
        entries = sorted(os.scandir(os.fsencode(folder)), key=lambda one: one.name)
    except OSError as error:
        raise StorageTrouble(f"{folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        name = spell(entry.name)
        if entry.is_file(follow_symlinks=False) and not is_passed_over(name):
            yield name, Path(os.fsdecode(entry.path))


def _is_filing(connection: Connection) -> bool:
    """Whether a film is recorded, and no row says yet that it was filed."""
    recorded = select(scans.c.id).where(in_hand(State.RECORDED)).limit(1)
    return connection.scalar(recorded) is not None


def _cannot_tell() -> StorageTrouble:
    return StorageTrouble("films are being filed: let the worker end that, or start it once")


def _kept(connection: Connection, folder: Path, names: Sequence[str]) -> set[str]:
    """Return those of these films that a backfill of the archive screened where they lie."""
    by_path = {f"{spell(os.fsencode(folder))}/{name}": name for name in names}
    paths = sorted(by_path)
    kept: set[str] = set()
    for start in range(0, len(paths), _CHUNK):
        statement = select(scans.c.file_name).where(
            scans.c.file_name.in_(paths[start : start + _CHUNK]), scans.c.state == State.KEPT
        )
        kept.update(by_path[path] for path in connection.scalars(statement))
    return kept


def _places(connection: Connection, day: str) -> set[str]:
    """Return where the files of a day's scans lie, by their rows."""
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    statement = select(scans.c.filed_as).where(
        scans.c.screened_at >= begin,
        scans.c.screened_at < begin + timedelta(days=1),
        scans.c.filed_as.is_not(None),
    )
    return set(connection.scalars(statement))
