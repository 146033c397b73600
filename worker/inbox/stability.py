"""Decides whether a file has stopped changing. Pure logic on sightings and times.

Each name is looked at again when it is due. If the file has not changed for `settle_seconds`, it is
ready; if it has, the wait starts again. A name that could not be read is tried again after ever
longer waits. Times are monotonic seconds; a file's own times are never used to tell its age.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from worker.system.trouble import doubling
from worker.types import Sighting


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A sighting that has stopped changing, and since when."""

    sighting: Sighting
    still_since: float  # monotonic seconds


@dataclass
class _Waiting:
    sighting: Sighting | None  # None where it could never be looked at
    still_since: float
    due: float


class Tracker:
    """Names that are waiting to be ready, at most `capacity` of them."""

    def __init__(self, *, settle_seconds: float, capacity: int = 8192) -> None:
        """Wait `settle_seconds` after the last change; hold at most `capacity` names."""
        self.settle_seconds = settle_seconds
        self.capacity = capacity
        # All names wait equally long, so order of arrival is order of due time.
        self._settling: OrderedDict[str, _Waiting] = OrderedDict()
        self._held: dict[str, _Waiting] = {}
        self.unreadable: Counter[str] = Counter()  # failures to read, by name

    def __len__(self) -> int:
        """Return the number of names waiting."""
        return len(self._settling) + len(self._held)

    @property
    def has_room(self) -> bool:
        """Whether more names may be added. Those held back are few and do not count."""
        return len(self._settling) < self.capacity

    def __contains__(self, name: str) -> bool:
        """Whether this name is waiting."""
        return name in self._settling or name in self._held

    def observe(self, sighting: Sighting, now: float) -> None:
        """Note a file as it is now. If it is known and unchanged, its wait goes on."""
        name = sighting.name
        known = self._settling.get(name) or self._held.get(name)
        if known is not None and known.sighting == sighting:
            return
        self.forget(name)
        self._settling[name] = _Waiting(sighting, now, now + self.settle_seconds)

    def hold(self, settled: Settled, *, until: float) -> None:
        """Keep a settled file waiting until a time: it may be incomplete, or another worker's."""
        self.forget(settled.sighting.name)
        self._held[settled.sighting.name] = _Waiting(settled.sighting, settled.still_since, until)

    def put_off(self, settled: Settled, now: float) -> None:
        """Keep a settled file waiting that could not be read, longer each time."""
        self.hold(settled, until=self._next_try(settled.sighting.name, now))

    def postpone(self, name: str, now: float) -> None:
        """Look again later at a name that could not be looked at, later each time."""
        waiting = self._pop(name) or _Waiting(None, now, now)
        due = self._next_try(name, now)
        self._held[name] = _Waiting(waiting.sighting, waiting.still_since, due)

    def forget(self, name: str) -> None:
        """Stop waiting for a name. The failures of a name never looked at are cleared."""
        waiting = self._pop(name)
        if waiting is not None and waiting.sighting is None:
            self.clear_failures(name)

    def clear_failures(self, name: str) -> None:
        """Clear the failures of a name."""
        self.unreadable.pop(name, None)

    def due(self, now: float) -> Iterator[str]:
        """Yield the names that are due, one at a time.

        Call `look_again` or `postpone` for each before taking the next.
        """
        while self._settling:
            name, waiting = next(iter(self._settling.items()))
            if waiting.due > now:
                break
            yield name
        for name in [name for name, waiting in self._held.items() if waiting.due <= now]:
            yield name

    def look_again(self, name: str, sighting: Sighting | None, now: float) -> Settled | None:
        """Return a due file as settled if it is unchanged; if it changed, wait again."""
        waiting = self._settling.get(name) or self._held.get(name)
        self.forget(name)
        if sighting is None or waiting is None:
            return None
        if sighting == waiting.sighting:
            return Settled(sighting=sighting, still_since=waiting.still_since)
        self.observe(sighting, now)
        return None

    def next_due(self) -> float | None:
        """Return when the next name is due, in monotonic seconds, or None if none waits."""
        times = [waiting.due for waiting in self._held.values()]
        if self._settling:
            times.append(next(iter(self._settling.values())).due)
        return min(times, default=None)

    def _pop(self, name: str) -> _Waiting | None:
        return self._settling.pop(name, None) or self._held.pop(name, None)

    def _next_try(self, name: str, now: float) -> float:
        self.unreadable[name] += 1
        return now + doubling(self.unreadable[name])
