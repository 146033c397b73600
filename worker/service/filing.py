"""Moves the files of recorded scans to their folders, and retries those that cannot be moved."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from worker.errors import FilmStuck
from worker.inbox.folders import Inbox
from worker.system.trouble import doubling
from worker.types import Recorded

_GONE_SECONDS = 3600.0  # a missing file is looked for this long


@dataclass(frozen=True, kw_only=True)
class _PutOff:
    """A recorded scan whose file could not be filed."""

    scan: Recorded
    since: float  # monotonic seconds
    due: float
    tries: int
    gone: bool  # not in the inbox; else it is there and cannot be moved


class Filing:
    """Recorded scans whose files are to be moved, or were moved and are not durable yet."""

    def __init__(self, inbox: Inbox) -> None:
        """Move files from `inbox` to its archive and refused folders."""
        self._inbox = inbox
        self._recorded: deque[Recorded] = deque()
        self._moved: list[tuple[int, str | None]] = []
        self._put_off: dict[int, _PutOff] = {}  # by scan id
        self._names: set[str] = set()  # of files that may still be in the inbox

    def __contains__(self, name: str) -> bool:
        """Whether a name in the inbox is a film with a verdict."""
        return name in self._names

    @property
    def busy(self) -> bool:
        """Whether there is something to do now."""
        return bool(self._recorded or self._moved)

    @property
    def stuck(self) -> int:
        """The number of films that cannot be moved out of the inbox."""
        return sum(not one.gone for one in self._put_off.values())

    @property
    def next_due(self) -> float | None:
        """When a postponed film is due again, in monotonic seconds."""
        return min((one.due for one in self._put_off.values()), default=None)

    def add(self, scans: Iterable[Recorded]) -> None:
        """Add scans whose verdict is durable. One that is known already is not added twice."""
        known = {one.scan_id for one in self._recorded} | self._put_off.keys()
        known |= {scan_id for scan_id, _ in self._moved}
        for scan in scans:
            if scan.scan_id not in known:
                self._recorded.append(scan)
                self._names.add(scan.sighting.name)

    def work(self, now: float) -> list[tuple[int, str | None]]:
        """Move the files that can be moved, and make the moves durable.

        Returns:
            What is filed durably: (scan id, place), with place None if the file is gone.

        Raises:
            StorageTrouble: nothing can be moved now. Nothing is lost: call again.
        """
        due = [one.scan for one in self._put_off.values() if one.due <= now]
        waiting = {scan.scan_id for scan in self._recorded}
        self._recorded.extend(scan for scan in due if scan.scan_id not in waiting)
        while self._recorded:
            self._file(self._recorded[0], now)
            self._recorded.popleft()
        if not self._moved:
            return []
        self._inbox.make_durable({place.split("/")[0] for _, place in self._moved if place})
        filed, self._moved = self._moved, []
        return filed

    def _file(self, scan: Recorded, now: float) -> None:
        try:
            place = self._inbox.file_away(scan)
        except FilmStuck:
            self._later(scan, now, gone=False)
            return
        self._names.discard(scan.sighting.name)
        before = self._put_off.get(scan.scan_id)
        given_up = before is not None and now - before.since >= _GONE_SECONDS
        if place is None and not given_up:
            # It may come back when its share is mounted again. Until then the row stays open, and
            # an open row is never screened again.
            self._later(scan, now, gone=True)
        else:
            self._put_off.pop(scan.scan_id, None)
            self._moved.append((scan.scan_id, place))

    def _later(self, scan: Recorded, now: float, *, gone: bool) -> None:
        before = self._put_off.get(scan.scan_id)
        tries = 1 if before is None else before.tries + 1
        self._put_off[scan.scan_id] = _PutOff(
            scan=scan,
            since=now if before is None else before.since,
            due=now + doubling(tries),
            tries=tries,
            gone=gone,
        )
