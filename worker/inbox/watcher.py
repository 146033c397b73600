"""File-system events, as hints.

The listing of the inbox is complete; events only make the worker faster. A lost event costs time,
never a film. This module reports when events may have been lost: the kernel's queue overflowed, the
watched folder is no longer the inbox, or the file system sends no events.
"""

from __future__ import annotations

import logging
import os
import queue
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from watchdog.events import (
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants, Mask

from worker.system.filenames import is_passed_over, spell

# On these, changes made by other hosts cause no event.
_WITHOUT_EVENTS = frozenset(
    (
        *("9p", "afs", "ceph", "cifs", "coda", "fuse", "fuseblk", "gfs", "gfs2", "glusterfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
        *("vboxsf", "virtiofs"),
    )
)
_QUEUE = 100_000  # hints; with more waiting, a listing is faster
# watchdog's messages contain paths, so they must not reach the log: see `_Complaints`.
_chatter = logging.getLogger("watchdog")
_chatter.propagate = False
_chatter.addHandler(logging.NullHandler())
_INTERESTING = [FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileMovedEvent]


@dataclass(frozen=True)
class Hint:
    """A name for which there was an event."""

    name: str  # as `filenames.spell` writes it
    whole: bool  # it was renamed into the inbox, so there is no need to wait


class Watcher:
    """Watches one folder, and queues hints and doubts."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        """Prepare to watch. `wake` is called from another thread when there is an event."""
        self._folder = folder
        self._wake = wake
        self._hints: queue.Queue[Hint] = queue.Queue(_QUEUE)
        self._doubt = False
        self._lost = False  # the watched folder was deleted; a new one may have its inode
        self._observer: BaseObserver | None = None
        self._identity: tuple[int, int] | None = None
        self._complaints = _Complaints(self._notify)
        self.by_events = False  # whether events are received at all

    def follow(self, identity: tuple[int, int]) -> bool:
        """Watch the present inbox, identified by (device, inode), in place of an earlier one.

        Returns:
            Whether it is another folder. Then events may have been missed: list the inbox.
        """
        alive = self._observer is None or self._observer.is_alive()
        if identity == self._identity and alive and not self._lost:
            return False
        self.stop()
        self._lost = False
        self._identity = identity
        self._watch()
        return True

    def try_again(self) -> None:
        """Try again to watch, if watches or threads had run out."""
        if self._identity is not None and self._observer is None:
            self._watch()

    def _watch(self) -> None:
        self.by_events = False
        if file_system_of(self._folder) in _WITHOUT_EVENTS:
            return
        observer = _Observer()
        handler = _Handler(self._folder, self._hints, self._notify)
        _chatter.addHandler(self._complaints)
        kinds = [*_INTERESTING, DirDeletedEvent, DirMovedEvent]
        with suppress(OSError, RuntimeError):  # out of watches or threads: listings are enough
            observer.schedule(handler, os.fspath(self._folder), event_filter=kinds)
            observer.start()
            self._observer = observer
            self.by_events = True

    def hints(self) -> list[Hint]:
        """Return the hints since the last call, the last one of each name."""
        latest: dict[str, Hint] = {}
        while True:
            try:
                hint = self._hints.get_nowait()
            except queue.Empty:
                return list(latest.values())
            latest[hint.name] = hint

    def doubts(self) -> bool:
        """Whether events may have been lost since the last call. If so, list the inbox."""
        if not self._doubt:
            return False
        self._doubt = False  # before the listing, so that a later doubt counts
        return True

    def stop(self) -> None:
        """Stop watching."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join(5.0)
        _chatter.removeHandler(self._complaints)
        self._observer = None
        self._identity = None

    def _notify(self, *, doubt: bool, lost: bool = False) -> None:
        if doubt:
            self._doubt = True
        if lost:
            self._lost = True
        self._wake()


class _Arrivals(InotifyFullEmitter):
    """Receives arrivals only, and distinguishes a file moved in from one being written.

    watchdog would hold back each departure, and all events after it, for half a second to pair it
    with an arrival elsewhere. Every film that is filed departs.
    """

    def get_event_mask_from_filter(self) -> Mask:
        return Mask(super().get_event_mask_from_filter() & ~InotifyConstants.IN_MOVED_FROM)


class _Observer(InotifyObserver):
    def __init__(self) -> None:
        super().__init__()
        self._emitter_class = _Arrivals


class _Complaints(logging.Handler):
    """Turns any warning of watchdog into a doubt, because it reports an overflow only so."""

    def __init__(self, notify: Callable[..., None]) -> None:
        super().__init__(logging.WARNING)
        self._notify = notify

    def emit(self, _record: logging.LogRecord) -> None:
        self._notify(doubt=True)


class _Handler(FileSystemEventHandler):
    """Runs in watchdog's thread, and only queues hints."""

    def __init__(self, folder: Path, hints: queue.Queue[Hint], notify: Callable[..., None]) -> None:
        self._folder = os.fsencode(folder)
        self._hints = hints
        self._notify = notify

    def on_any_event(self, event: FileSystemEvent) -> None:
        doubt = event.is_directory
        lost = isinstance(event, DirDeletedEvent) and os.fsencode(event.src_path) == self._folder
        if not event.is_directory:
            path = event.dest_path or event.src_path
            name = spell(os.fsencode(path).rpartition(b"/")[2])
            try:
                if not is_passed_over(name):
                    self._hints.put_nowait(Hint(name, isinstance(event, FileMovedEvent)))
            except queue.Full:
                doubt = True
        self._notify(doubt=doubt, lost=lost)


def file_system_of(folder: Path) -> str:
    """Return the kernel's name for a folder's file system; "" if unknown."""
    try:
        device = folder.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0].split(".")[0]
    return ""
