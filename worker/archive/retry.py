"""Moves refused films back into the inbox, to be screened again."""

from __future__ import annotations

from collections.abc import Iterator

from worker.db.engine import Database
from worker.db.places import forget_places
from worker.db.results import Results, Retriable
from worker.inbox.folders import Inbox
from worker.inbox.sidecar import remove_why
from worker.system.filenames import bytes_of


def send_back(database: Database, inbox: Inbox, wanted: str) -> Iterator[tuple[int, str | None]]:
    """Move refused films back into the inbox, and clear the place in their rows.

    Args:
        database: with the scans.
        inbox: with its archive and refused folders.
        wanted: an id, a file name, or the beginning of a SHA-256.

    Yields:
        (scan id, problem) for each scan that matches and whose film exists; problem is None if the
        film was moved.

    Raises:
        DatabaseTrouble: the database failed.
    """
    for scan in Results(database).retriable(wanted):
        problem = inbox.bring_back(scan.filed_as, scan.file_name, scan.scan_id)
        if scan.filed_as is not None and problem is None:
            _clear_place(database, inbox, scan, scan.filed_as)
        elif scan.filed_as is not None and inbox.has_left(scan.filed_as):
            forget_places(database, _scans_of(scan))
        yield scan.scan_id, problem


def _clear_place(database: Database, inbox: Inbox, scan: Retriable, filed_as: str) -> None:
    """Remove the JSON file of a film that went back, and free its place."""
    day, _, name = filed_as.partition("/")
    for scan_id in _scans_of(scan):
        remove_why(inbox.refused / day, bytes_of(name), scan_id)
    forget_places(database, _scans_of(scan))


def _scans_of(scan: Retriable) -> list[int]:
    return [*scan.before, scan.scan_id]
