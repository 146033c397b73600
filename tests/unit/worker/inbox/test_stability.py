"""Stillness: a file is ready when nothing of it has changed for as long as it must, and once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scans import sighting, sightings

from worker.inbox.stability import Settled, Tracker
from worker.types import Sighting

SETTLE = 1.0


def tracker(capacity: int = 8192) -> Tracker:
    """Return a tracker that waits a second."""
    return Tracker(settle_seconds=SETTLE, capacity=capacity)


def look_at_all(tracker: Tracker, files: dict[str, Sighting], now: float) -> list[Settled]:
    """Take the second look at everything that is due, as the pipeline does."""
    looked = (tracker.look_again(name, files.get(name), now) for name in tracker.due(now))
    return [settled for settled in looked if settled is not None]


def test_ready_when_it_stood_still() -> None:
    """A file is not due before its time, then ready, since when it was first seen so."""
    waiting, film = tracker(), sighting()
    waiting.observe(film, 10.0)
    waiting.observe(film, 10.9)
    assert waiting.next_due() == 11.0
    assert list(waiting.due(10.99)) == []
    assert look_at_all(waiting, {film.name: film}, 11.0) == [
        Settled(sighting=film, still_since=10.0)
    ]
    assert film.name not in waiting
    assert waiting.next_due() is None


def test_a_change_starts_the_wait_again() -> None:
    """A file that changed, told by an event or found at the second look, waits anew."""
    waiting, film = tracker(), sighting()
    waiting.observe(film, 0.0)
    grown = replace(film, size_bytes=film.size_bytes + 1)
    waiting.observe(grown, 0.5)
    assert list(waiting.due(1.4)) == []
    grown_again = replace(grown, mtime_ns=film.mtime_ns + 1)
    assert look_at_all(waiting, {film.name: grown_again}, 1.5) == []
    assert list(waiting.due(2.4)) == []
    assert look_at_all(waiting, {film.name: grown_again}, 2.5) == [
        Settled(sighting=grown_again, still_since=1.5)
    ]


def test_a_file_that_went_is_forgotten() -> None:
    """A file that is gone at the second look is no longer waited for."""
    waiting, film = tracker(), sighting()
    waiting.observe(film, 0.0)
    assert look_at_all(waiting, {}, 1.0) == []
    assert len(waiting) == 0


def test_a_file_held_back_keeps_its_age() -> None:
    """A file that broke off is held until a time, and has stood still since it first did."""
    waiting, film = tracker(), sighting()
    settled = Settled(sighting=film, still_since=3.0)
    waiting.hold(settled, until=30.0)
    waiting.observe(film, 5.0)
    assert film.name in waiting
    assert waiting.next_due() == 30.0
    assert look_at_all(waiting, {film.name: film}, 29.9) == []
    assert look_at_all(waiting, {film.name: film}, 30.0) == [settled]


def test_a_file_held_back_that_grows_is_looked_at_soon() -> None:
    """What a held file waited for has come when it changes: it settles as usual."""
    waiting, film = tracker(), sighting()
    waiting.hold(Settled(sighting=film, still_since=3.0), until=1e9)
    grown = replace(film, size_bytes=2)
    waiting.observe(grown, 5.0)
    assert look_at_all(waiting, {film.name: grown}, 6.0) == [
        Settled(sighting=grown, still_since=5.0)
    ]


def test_room() -> None:
    """No more names than fit are taken in; those held back take no room."""
    waiting = tracker(capacity=3)
    waiting.hold(Settled(sighting=sighting("held"), still_since=0.0), until=99.0)
    room = []
    for film in sightings(3):
        room.append(waiting.has_room)
        waiting.observe(film, 0.0)
    assert [*room, waiting.has_room] == [True, True, True, False]
    assert len(waiting) == 4


def test_no_wait_at_all() -> None:
    """With no seconds to settle a film is ready at once."""
    waiting, film = Tracker(settle_seconds=0), sighting()
    waiting.observe(film, 7.0)
    assert [one.sighting for one in look_at_all(waiting, {film.name: film}, 7.0)] == [film]


class Inbox(RuleBasedStateMachine):
    """Files that come, change and go while time passes."""

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        """Begin with an empty inbox."""
        super().__init__()
        self.tracker = tracker()
        self.now = 0.0
        self.files: dict[str, Sighting] = {}
        self.changed: dict[str, float] = {}  # when a file last did
        self.versions = 0

    @rule(name=names)
    def write(self, name: str) -> None:
        """Something writes to a file."""
        self.versions += 1
        self.files[name] = sighting(name, size_bytes=self.versions)
        self.changed[name] = self.now

    @rule(name=names)
    def remove(self, name: str) -> None:
        """Something takes a file away."""
        self.files.pop(name, None)

    @rule(name=names)
    def notice(self, name: str) -> None:
        """An event or the listing tells of a name."""
        if name in self.files:
            self.tracker.observe(self.files[name], self.now)

    @rule(name=names, seconds=st.floats(0, 3))
    def hold(self, name: str, seconds: float) -> None:
        """A film that was screened is to be looked at again later."""
        if name in self.files:
            settled = Settled(sighting=self.files[name], still_since=self.changed[name])
            self.tracker.hold(settled, until=self.now + seconds)

    @rule(seconds=st.floats(0, 2))
    def wait(self, seconds: float) -> None:
        """Time passes, and what is due is looked at again."""
        self.now += seconds
        for settled in look_at_all(self.tracker, self.files, self.now):
            name = settled.sighting.name
            assert settled.sighting == self.files[name], "ready as it is, not as it was"
            assert settled.still_since >= self.changed[name], "not still for so long"
        assert all(due > self.now for due in [self.tracker.next_due()] if due is not None)

    @rule()
    def see_the_end(self) -> None:
        """Left alone, whatever is there becomes ready, once."""
        for name in self.files:
            self.tracker.observe(self.files[name], self.now)
        ready: list[str] = []
        for _ in range(3):
            self.now += 4 * SETTLE
            ready += [one.sighting.name for one in look_at_all(self.tracker, self.files, self.now)]
        assert sorted(ready) == sorted(self.files)
        assert len(self.tracker) == 0

    @invariant()
    def knows_when(self) -> None:
        """Whoever is waited for has a time."""
        assert (self.tracker.next_due() is None) == (len(self.tracker) == 0)


TestInbox = Inbox.TestCase
TestInbox.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
