"""Refused films that go back into the inbox, to be screened anew."""

from __future__ import annotations

from collections.abc import Iterator

from worker.db.engine import Database
from worker.db.places import forget_places
from worker.db.results import Results, Retriable
from worker.inbox.folders import Inbox
from worker.inbox.sidecar import remove_why
from worker.system.filenames import bytes_of


def send_back(database: Database, inbox: Inbox, wanted: str) -> Iterator[tuple[int, str | None]]:
    """Move refused films back into the inbox; their rows name no place any more.

    Args:
        database: where scans are.
        inbox: with its archive and refused folders.
        wanted: an id, a file name, or the beginning of a SHA-256.

    Yields:
        The id of each scan that is meant and whose film is there, and why its film stays, or None
        where it went.

    Raises:
        DatabaseTrouble: the database cannot be asked.
    """
    for scan in Results(database).retriable(wanted):
        problem = inbox.bring_back(scan.filed_as, scan.file_name, scan.scan_id)
        if scan.filed_as is not None and problem is None:
            _clear_place(database, inbox, scan, scan.filed_as)
        elif scan.filed_as is not None and inbox.has_left(scan.filed_as):
            forget_places(database, _scans_of(scan))
        yield scan.scan_id, problem


def _clear_place(database: Database, inbox: Inbox, scan: Retriable, filed_as: str) -> None:
    """Leave nothing of a film in the place it went back from: the next may take that."""
    day, _, name = filed_as.partition("/")
    for scan_id in _scans_of(scan):
        remove_why(inbox.refused / day, bytes_of(name), scan_id)
    forget_places(database, _scans_of(scan))


def _scans_of(scan: Retriable) -> list[int]:
    return [*scan.before, scan.scan_id]
