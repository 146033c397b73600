"""Archived and refused files that no row names, as after a database restored from a backup."""

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

    JSON that lies beside refused files is no film. While a film is recorded and not yet filed, its
    row does not say where it lies: then nothing can be told.

    Raises:
        DatabaseTrouble: the database cannot be asked.
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
    # In this order, for a worker may go on filing: a film that is listed was recorded before, and
    # if no row is only recorded any more, the film's says by now where it lies.
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
    """Yield the files in a folder that could be films: names as rows spell them, and paths."""
    try:
        entries = sorted(os.scandir(os.fsencode(folder)), key=lambda one: one.name)
    except OSError as error:
        raise StorageTrouble(f"{folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        name = spell(entry.name)
        if entry.is_file(follow_symlinks=False) and not is_passed_over(name):
            yield name, Path(os.fsdecode(entry.path))


def _cannot_tell() -> StorageTrouble:
    return StorageTrouble("films are being filed: let the worker end that, or start it once")
