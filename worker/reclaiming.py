"""Archived and refused files that no row names, as after a database restored from a backup."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from worker.database import Database
from worker.errors import StorageTrouble
from worker.inbox import Inbox, is_passed_over, spell
from worker.schema import State, in_hand, scans

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
        if connection.scalar(select(scans.c.id).where(in_hand(State.RECORDED)).limit(1)):
            raise StorageTrouble("films are being filed: let the worker end that, or start it once")
    for root in (inbox.archive, inbox.refused):
        try:
            days = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        except OSError as error:
            raise StorageTrouble(f"{root} cannot be listed: {error.strerror}") from error
        for day in filter(_DAY.fullmatch, days):
            known = _places(database, day)
            for entry in sorted(os.scandir(os.fsencode(root / day)), key=lambda one: one.name):
                name = spell(entry.name)
                beside = root == inbox.refused and name.endswith(".json")
                film = entry.is_file(follow_symlinks=False) and not is_passed_over(name)
                if film and not beside and f"{day}/{name}" not in known:
                    yield Path(os.fsdecode(entry.path))


def _places(database: Database, day: str) -> set[str]:
    """Return where the files of a day's scans lie, by their rows."""
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    statement = select(scans.c.filed_as).where(
        scans.c.screened_at >= begin,
        scans.c.screened_at < begin + timedelta(days=1),
        scans.c.filed_as.is_not(None),
    )
    with database.reading() as connection:
        return set(connection.scalars(statement))
