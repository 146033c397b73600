"""Finds names in the inbox, by events and by a complete listing from time to time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from worker.errors import StorageTrouble
from worker.inbox.folders import Inbox
from worker.inbox.watcher import Watcher

_LISTED_A_STEP = 512  # names, which keeps each step short
_LEFT_TO_ANOTHER = 9  # listings left to another worker before this one lists once


class TakeNote(Protocol):
    """Accepts a name from the inbox."""

    def __call__(self, name: str, now: float, *, whole: bool) -> None:
        """Accept a name; `now` is in monotonic seconds."""


class Lookout:
    """Looks for names in the inbox, a few at a time."""

    def __init__(self, inbox: Inbox, watcher: Watcher, *, scan_seconds: float) -> None:
        """List the inbox every `scan_seconds`, and at once if events may have been lost."""
        self._inbox = inbox
        self._watcher = watcher
        self._scan_seconds = scan_seconds
        self._listing: Iterator[str] | None = None
        self._next_listing = 0.0
        self._again = False  # events may have been lost during this listing
        self._left = 0  # listings in a row left to another worker
        self.can_list = False  # a listing has returned a name or ended
        self.listed_once = False  # by this worker, or left to another

    @property
    def listing(self) -> bool:
        """Whether a listing is in progress."""
        return self._listing is not None

    @property
    def next_listing(self) -> float:
        """When the next listing is due, in monotonic seconds; infinity during a listing."""
        return inf if self.listing else self._next_listing

    @property
    def by_events(self) -> bool:
        """Whether the file system sends events."""
        return self._watcher.by_events

    def is_due(self, now: float) -> bool:
        """Whether to begin a listing: it is time, or events may have been lost.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        if self._watcher.follow(self._inbox.identity()) or self._watcher.doubts():
            self._next_listing = now
            self._again = self.listing
        return not self.listing and now >= self._next_listing

    def begin(self, now: float, *, another_lists: bool = False) -> None:
        """Begin a listing. If another worker lists, leave nine in ten to it."""
        self._watcher.try_again()
        if another_lists and self._left < _LEFT_TO_ANOTHER:
            self._left += 1
            self.can_list = self.listed_once = True
            self._next_listing = now + self._scan_seconds
            return
        self._left = 0
        self._listing = self._inbox.names()

    def look(self, now: float, *, notice: TakeNote, has_room: Callable[[], bool]) -> None:
        """Report the names from events, then some of the listing.

        Args:
            now: monotonic seconds.
            notice: called with each name, the time, and whether the film is known to be complete.
            has_room: whether another name of the listing can be accepted.

        Raises:
            StorageTrouble: the inbox cannot be listed.
        """
        for hint in self._watcher.hints():
            notice(hint.name, now, whole=hint.whole)
        for _ in range(_LISTED_A_STEP):
            if self._listing is None or not has_room():
                return
            listed = self._next_name(self._listing, now)
            if listed is not None:
                notice(listed, now, whole=False)

    def stop(self) -> None:
        """Stop watching."""
        self._watcher.stop()

    def _next_name(self, listing: Iterator[str], now: float) -> str | None:
        try:
            name = next(listing, None)
        except StorageTrouble:
            self._listing = None  # the next listing starts from the beginning
            raise
        self.can_list = True
        if name is None:
            self._listing = None
            self.listed_once = True
            self._next_listing = now if self._again else now + self._scan_seconds
            self._again = False
        return name
