"""Brings names from the inbox: what events tell, and the listing that leaves nothing out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf
from typing import Protocol

from worker.errors import StorageTrouble
from worker.inbox.folders import Inbox
from worker.inbox.watcher import Watcher

_LISTED_A_STEP = 512  # names: a step stays short however full the inbox is
_LEFT_TO_ANOTHER = 9  # listings in a row, before this worker does one all the same


class TakeNote(Protocol):
    """Takes note of a name."""

    def __call__(self, name: str, now: float, *, whole: bool) -> None:
        """Take note of a name, at a time in monotonic seconds."""


class Lookout:
    """Looks at the inbox, a little at a time."""

    def __init__(self, inbox: Inbox, watcher: Watcher, *, scan_seconds: float) -> None:
        """List the inbox every `scan_seconds`, and at once when events are in doubt."""
        self._inbox = inbox
        self._watcher = watcher
        self._scan_seconds = scan_seconds
        self._listing: Iterator[str] | None = None
        self._next_listing = 0.0
        self._again = False  # what events may have missed came behind what is listed
        self._left = 0  # listings in a row that were left to another worker
        self.can_list = False  # it has shown at least one film, or that there is none
        self.listed_once = False  # by this worker or, as far as it knows, by another

    @property
    def listing(self) -> bool:
        """Whether a listing is under way."""
        return self._listing is not None

    @property
    def next_listing(self) -> float:
        """When the next listing is due, in monotonic seconds; never while one is under way."""
        return inf if self.listing else self._next_listing

    @property
    def by_events(self) -> bool:
        """Whether events are to be had."""
        return self._watcher.by_events

    def is_due(self, now: float) -> bool:
        """Whether a listing is to begin: it is time, or events are in doubt.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        if self._watcher.follow(self._inbox.identity()) or self._watcher.doubts():
            self._next_listing = now
            self._again = self.listing
        return not self.listing and now >= self._next_listing

    def begin(self, now: float, *, another_lists: bool = False) -> None:
        """Begin a listing, or leave it to the worker that lists, but for one in ten."""
        self._watcher.try_again()
        if another_lists and self._left < _LEFT_TO_ANOTHER:
            self._left += 1
            self.can_list = self.listed_once = True
            self._next_listing = now + self._scan_seconds
            return
        self._left = 0
        self._listing = self._inbox.names()

    def look(self, now: float, *, notice: TakeNote, has_room: Callable[[], bool]) -> None:
        """Tell the names that events brought, then some of the listing.

        Args:
            now: monotonic seconds.
            notice: is told each name, the time, and whether the film is known to be whole.
            has_room: whether another name of the listing may be told.

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
            self._listing = None  # start anew when it is over
            raise
        self.can_list = True
        if name is None:
            self._listing = None
            self.listed_once = True
            self._next_listing = now if self._again else now + self._scan_seconds
            self._again = False
        return name
