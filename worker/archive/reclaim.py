"""Finds archived and refused files without a row, as after restoring a database backup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from worker.db.engine import Database
from worker.db.places import is_filing, named_films
from worker.errors import StorageTrouble
from worker.inbox.folders import Inbox
from worker.system.filenames import is_passed_over, spell

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def unnamed(database: Database, inbox: Inbox) -> Iterator[Path]:
    """Yield the files in the archive and refused folders that no row names, by day.

    The JSON files of refused films are skipped. While a film is recorded and not yet filed, its row
    does not name its place; then this raises.

    Raises:
        DatabaseTrouble: the database failed.
        StorageTrouble: a folder cannot be listed, or films are being filed.
        StorageTrouble: a folder cannot be listed, or films are being filed.
    """
    if is_filing(database):
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
    # List files first, then read rows: a listed film was recorded before. If no row is unfiled by
    # then, the film's row names its place.
    films = list(_films(folder))
    whole = spell(os.fsencode(folder.resolve()))
    named, filing = named_films(database, folder.name, whole, [name for name, _ in films])
    for name, path in films:
        beside = refused and name.endswith(".json")
        if not beside and name not in named:
            if filing:
                raise _cannot_tell()
            yield path


def _films(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield (name as in rows, path) of the files in a folder that may be films."""
    try:
        entries = sorted(os.scandir(os.fsencode(folder)), key=lambda one: one.name)
    except OSError as error:
        raise StorageTrouble(f"{folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        name = spell(entry.name)
        if entry.is_file(follow_symlinks=False) and not is_passed_over(name):
            yield name, Path(os.fsdecode(entry.path))


def _cannot_tell() -> StorageTrouble:
    return StorageTrouble("films are being filed: wait for the worker, or run it once")
