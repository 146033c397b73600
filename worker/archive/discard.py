"""Films that are old enough to go: their files are removed, and their rows stay."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update

from worker.db.engine import Database
from worker.db.schema import State, labels, scans
from worker.inbox.sidecar import remove_why
from worker.system.filenames import bytes_of

_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class Old:
    """A film that may go."""

    scan_id: int
    place: str  # below its folder, as `names.spell` writes it
    sha256: str | None
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much there is."""

    films: int
    size_bytes: int
    labelled: int  # as old, and stay: a reader's label is what nights learn from


class Discarding:
    """Archived films or refused ones. Every method may raise `DatabaseTrouble`."""

    def __init__(
        self, database: Database, folder: Path, *, refused: bool, before: datetime
    ) -> None:
        """Look at films screened before then, whose files lie below `folder`."""
        self._database = database
        self._folder = folder
        self._refused = refused
        self._old = and_(
            scans.c.state == State.FILED,
            scans.c.filed_as.is_not(None),
            scans.c.screened_at < before,
            scans.c.refusal_code.is_not(None) if refused else scans.c.refusal_code.is_(None),
        )

    def extent(self) -> Extent:
        """Return how much would go, and what would stay for its label."""
        size = func.coalesce(func.sum(scans.c.size_bytes), 0)
        with self._database.reading() as connection:
            going = connection.execute(
                select(func.count(), size).select_from(scans).where(self._old, ~_has_label())
            ).one()
            staying = select(func.count()).select_from(scans).where(self._old, _has_label())
            return Extent(
                films=going[0], size_bytes=int(going[1]), labelled=connection.scalar(staying) or 0
            )

    def discard(self) -> Iterator[tuple[Old, str | None]]:
        """Remove files, and yield each film with why its file stays, or None where it is gone.

        A file is removed before its row says so: killed between the two, the next run finds it
        gone. One that is not what was screened stays, and so does everything of a folder that is
        not there: it may be a share that is not mounted.
        """
        last: tuple[datetime, int] | None = None
        while True:
            statement = select(scans).where(self._old, ~_has_label())
            if last is not None:
                at, number = last
                statement = statement.where(
                    scans.c.screened_at >= at,
                    or_(scans.c.screened_at > at, scans.c.id > number),
                )
            ordered = statement.order_by(scans.c.screened_at, scans.c.id).limit(_PAGE)
            with self._database.reading() as connection:
                rows = connection.execute(ordered).all()
            done = []
            for row in rows:
                film = Old(
                    scan_id=row.id,
                    place=row.filed_as,
                    sha256=row.sha256,
                    size_bytes=row.size_bytes,
                )
                done.append((film, self._remove(film)))
            gone = [film for film, why in done if why is None]
            self._record([film.scan_id for film in gone])
            for day in {film.place.partition("/")[0] for film in gone}:
                with suppress(OSError):  # there are others in it
                    (self._folder / day).rmdir()
            yield from done
            if len(rows) < _PAGE:
                return
            last = (rows[-1].screened_at, rows[-1].id)

    def _record(self, scan_ids: Sequence[int]) -> None:
        if not scan_ids:
            return
        with self._database.writing() as connection:
            connection.execute(
                update(scans)
                .where(scans.c.id.in_(scan_ids), scans.c.state == State.FILED)
                .values(filed_as=None)
            )

    def _remove(self, film: Old) -> str | None:
        day, _, name = film.place.partition("/")
        folder = self._folder / day
        path = folder / os.fsdecode(bytes_of(name))
        try:
            if not folder.is_dir():
                return "its folder is not there: is a share not mounted?"
            if not _is_what_was_screened(path, film):
                return "what lies in its place is not what was screened"
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"it cannot be removed: {error.strerror}"
        if self._refused:
            remove_why(folder, bytes_of(name), film.scan_id)
        return None


def _has_label() -> ColumnElement[bool]:
    return exists(select(labels.c.id).where(labels.c.scan_id == scans.c.id))


def _is_what_was_screened(path: Path, film: Old) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != film.size_bytes:
            return False
        if film.sha256 is None:  # it was refused unread
            return True
        return hashlib.file_digest(file, "sha256").hexdigest() == film.sha256
