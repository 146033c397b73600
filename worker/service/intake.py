"""The names of an inbox until they are claimed: noticed, waited for until they stand still, ready.

Nothing here opens a film. A name comes back, to be looked at again later, when it could not be
read, when it broke off, when another worker has it in hand, or when it is not what it was.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable
from contextlib import suppress
from itertools import islice

from worker.errors import FilmStuck, StorageTrouble
from worker.inbox.folders import Inbox
from worker.inbox.stability import Settled, Tracker
from worker.service.filing import Filing
from worker.system.trouble import doubling
from worker.types import Sighting


class Arrivals:
    """What is known of an inbox, but for what its films show."""

    def __init__(
        self,
        inbox: Inbox,
        filing: Filing,
        *,
        settle_seconds: float,
        told_once: bool = False,
    ) -> None:
        """Look after the names of `inbox`.

        Args:
            inbox: where they are looked at.
            filing: knows which are of films that have their verdict, and are not to be noticed.
            settle_seconds: that a film must have stood still.
            told_once: no name comes a second time by itself. What is to be noticed once more goes
                to `again`, and what is done is not remembered.
        """
        self._inbox = inbox
        self._filing = filing
        self._told_once = told_once
        self._tracker = Tracker(settle_seconds=settle_seconds)
        self._ready: deque[Settled] = deque()
        self._busy: set[str] = set()  # names that are ready or claimed
        # Hashes of sightings that are done and stay in the inbox: seen since a listing began, and
        # those of the one before.
        self._kept: set[int] = set()
        self._kept_before: set[int] = set()
        self._unseen: set[str] = set()  # names that could never be looked at
        self.unreadable: Counter[str] = Counter()  # names, by how often they could not be read
        self.again: deque[str] = deque()  # names for whoever told them to tell once more

    # Where they stand

    @property
    def waiting(self) -> int:
        """How many files are known and not yet claimed."""
        return len(self._ready) + len(self._tracker)

    @property
    def awaited(self) -> int:
        """How many of them cannot be claimed yet."""
        return len(self._tracker)

    @property
    def wants_names(self) -> bool:
        """Whether more of the inbox should be listed."""
        return self._tracker.has_room and len(self._ready) < self._tracker.capacity

    @property
    def idle(self) -> bool:
        """Whether nothing is ready, claimed, or to be told once more."""
        return not (self._busy or self.again)

    @property
    def busy(self) -> Collection[str]:
        """The names that are ready or claimed."""
        return self._busy

    @property
    def next_due(self) -> float | None:
        """When a name is to be looked at again, in monotonic seconds."""
        return self._tracker.next_due()

    # On the way to being ready

    def notice(self, name: str, now: float, *, whole: bool = False) -> None:
        """Take note of a name that an event or the listing brought.

        A film that is known to be `whole` waits for nothing. If it is not so after all, it is
        refused no sooner than any other that breaks off.
        """
        if name in self._busy or name in self._filing:
            return
        try:
            sighting = self._inbox.look(name)
        except FilmStuck:
            # Who tells names once looks for itself what became of one that nothing is known of.
            if name not in self._tracker and not self._told_once:
                nothing = Sighting(name=name, size_bytes=0, mtime_ns=0, inode=0)
                self._unseen.add(name)
                self._tracker.hold(
                    Settled(sighting=nothing, still_since=now), until=self._next_try(name, now)
                )
            return
        self._seen(name)
        if sighting is None or self._stays(sighting):
            return
        if whole:
            self._tracker.forget(name)
            self._make_ready(Settled(sighting=sighting, still_since=now))
        else:
            self._tracker.observe(sighting, now)

    def settle(self, now: float) -> None:
        """Move what has stood still to what can be claimed."""
        for name in self._tracker.due(now):
            try:
                sighting = self._inbox.look(name)
            except FilmStuck:
                self._tracker.postpone(name, until=self._next_try(name, now))
                continue
            self._seen(name)
            settled = self._tracker.look_again(name, sighting, now)
            if sighting is None:
                self.let_go(name, now)
            if settled is not None:
                self._make_ready(settled)

    def begin_listing(self) -> None:
        """Forget what was done and has gone: it was not seen by the listing before this one."""
        self._kept, self._kept_before = set(), self._kept

    def _stays(self, sighting: Sighting) -> bool:
        """Whether a film is done and stays in the inbox."""
        film = hash(sighting)
        if film in self._kept_before:
            self._kept_before.remove(film)
            self._kept.add(film)
        return film in self._kept

    def _make_ready(self, settled: Settled) -> None:
        self._busy.add(settled.sighting.name)
        self._ready.append(settled)

    def _seen(self, name: str) -> None:
        """A name could be looked at: one that never could be before is a film like any other."""
        if name in self._unseen:
            self._unseen.remove(name)
            self.unreadable.pop(name, None)

    def _next_try(self, name: str, now: float) -> float:
        self.unreadable[name] += 1
        return now + doubling(self.unreadable[name])

    # What is ready, and its claims

    @property
    def ready(self) -> int:
        """How many films can be claimed."""
        return len(self._ready)

    def first(self, most: int) -> list[Settled]:
        """Return up to so many that are ready, those that have waited longest."""
        return list(islice(self._ready, most))

    def last(self, most: int) -> list[Settled]:
        """Return up to so many that are ready, the last to come first."""
        return list(islice(reversed(self._ready), most))

    def take_first(self, count: int) -> None:
        """Hand the first so many over to whoever claims them."""
        for _ in range(count):
            self._ready.popleft()

    def drop_last(self, count: int) -> None:
        """Leave the last so many to another worker."""
        for _ in range(count):
            self._busy.discard(self._ready.pop().sighting.name)

    def taken(self, sighting: Sighting) -> None:
        """Know that a film was claimed that this worker need not have seen before."""
        self._tracker.forget(sighting.name)
        self._busy.add(sighting.name)

    def is_there(self, sighting: Sighting) -> bool:
        """Whether a file stands as it was sighted, as far as can be told.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        try:
            return self._inbox.look(sighting.name) == sighting
        except FilmStuck:
            return True

    # How a claim can end

    def put_first(self, settled: Settled) -> None:
        """Have a film claimed again before all others."""
        self._ready.appendleft(settled)

    def put_back(self, settled: Settled, *, until: float) -> None:
        """Look at a still film again at a time in monotonic seconds."""
        self._busy.discard(settled.sighting.name)
        self._tracker.hold(settled, until=until)

    def put_off(self, settled: Settled, now: float) -> None:
        """Look at a film that could not be read again later, each time after a longer wait."""
        self.put_back(settled, until=self._next_try(settled.sighting.name, now))

    def done(self, name: str) -> None:
        """Know that a film has its verdict."""
        self._busy.discard(name)
        self.unreadable.pop(name, None)

    def keep(self, sightings: Iterable[Sighting]) -> None:
        """Notice no more what has its verdict and stays in the inbox."""
        if not self._told_once:
            self._kept.update(map(hash, sightings))

    def lose(self, name: str) -> None:
        """Leave a film to the worker that has it, or has ended its claim."""
        self._busy.discard(name)
        if self._told_once:
            self.again.append(name)

    def let_go(self, name: str, now: float) -> None:
        """Forget a file that is not what it was; what stands there now starts afresh."""
        self.lose(name)
        self.unreadable.pop(name, None)
        if not self._told_once:
            with suppress(StorageTrouble):  # the listing will find it
                self.notice(name, now)
