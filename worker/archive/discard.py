"""Removes the files of old films. Their rows stay."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from worker.db.engine import Database
from worker.db.places import Extent, OldFilm, OldFilms, forget_places
from worker.inbox.sidecar import remove_why
from worker.system.filenames import bytes_of


class Discarding:
    """Old archived or refused films. Every method may raise `DatabaseTrouble`."""

    def __init__(
        self, database: Database, folder: Path, *, refused: bool, before: datetime
    ) -> None:
        """Choose films screened before `before`, with files below `folder`."""
        self._database = database
        self._folder = folder
        self._refused = refused
        self._films = OldFilms(database, refused=refused, before=before)

    def extent(self) -> Extent:
        """Return how much would be removed, and how many films stay for their label."""
        return self._films.extent()

    def discard(self) -> Iterator[tuple[OldFilm, str | None]]:
        """Remove files, and yield each film with why its file stays, or None if it is removed.

        A file is removed before its row is changed. If the run is killed in between, the next one
        finds the file gone. A file that is not the one screened stays. So do all files of a folder
        that does not exist, because a share may not be mounted.
        """
        for page in self._films.pages():
            done = [(film, self._remove(film)) for film in page]
            gone = [film for film, why in done if why is None]
            forget_places(self._database, [film.scan_id for film in gone])
            for day in {film.place.partition("/")[0] for film in gone}:
                with suppress(OSError):  # not empty
                    (self._folder / day).rmdir()
            yield from done

    def _remove(self, film: OldFilm) -> str | None:
        day, _, name = film.place.partition("/")
        folder = self._folder / day
        path = folder / os.fsdecode(bytes_of(name))
        try:
            if not folder.is_dir():
                return "its folder does not exist: is a share not mounted?"
            if not _is_what_was_screened(path, film):
                return "the file in its place is not the one that was screened"
            path.unlink()
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"it cannot be removed: {error.strerror}"
        if self._refused:
            remove_why(folder, bytes_of(name), film.scan_id)
        return None


def _is_what_was_screened(path: Path, film: OldFilm) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != film.size_bytes:
            return False
        if film.sha256 is None:  # refused without being read
            return True
        return hashlib.file_digest(file, "sha256").hexdigest() == film.sha256
