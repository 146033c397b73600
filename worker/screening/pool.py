"""The pool of screeners: starts them, gives them films, ends slow ones, replaces ended ones.

Each screener has a short queue, so that it never waits for its parent, and reads the first film in
it. If a screener ends, only that film counts as the cause; the others are handed back. A new model
gets new screeners. They load and check the package first; then the old ones finish their films and
end.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Self

from worker.errors import ScreenerTrouble
from worker.screening.ipc import Channel, Job, Message, Ready, Result, Setup, Unfit
from worker.settings import ScreenerOptions
from worker.system.filenames import bytes_of
from worker.system.trouble import doubling
from worker.types import Claim

_QUEUE = 12  # films per screener, enough to keep it busy during a commit
# Screeners inherit no environment. One thread each, because there is a process per core.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_LONGEST_TURN = 2.0  # seconds between two turns of a healthy loop
_LOAD_SECONDS = 60.0  # limit to load and check a package
_AGAIN_SECONDS = 5.0  # until the next try to replace a screener
_FENCED_OUT = "EACCES"  # a screener's error for a film outside its sandbox
_MESSAGES_A_TURN = 64  # read from one screener before the others get their turn


@dataclass(frozen=True, kw_only=True)
class Screened:
    """A screener has finished a film."""

    claim: Claim
    result: Result
    model_version: str


@dataclass(frozen=True, kw_only=True)
class Died:
    """A screener ended while it read this film, by a crash or because it took too long."""

    claim: Claim
    overran: bool
    how: str


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """A film queued behind one that ended its screener. It was not read."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Serving:
    """All screeners serve this model version from now on."""

    model_version: str
    unfenced: str = ""  # parts of their sandbox that are missing


@dataclass(frozen=True, kw_only=True)
class NotServing:
    """This package could not be put into service. The one before still serves."""

    package: Path
    why: str
    proven: bool = True  # the package is at fault; if False, a later try may succeed


PoolEvent = Screened | Died | HandedBack | Serving | NotServing


@dataclass(eq=False)
class _Child:
    """A screener as seen by its parent: process, channel and queue of films."""

    package: Path
    process: subprocess.Popen[bytes]
    channel: Channel
    started: float  # monotonic seconds
    version: str | None = None  # set when ready
    unfenced: str = ""  # parts of its sandbox that are missing
    outside: bool = False  # its sandbox is around an inbox that is gone
    jobs: deque[Claim] = field(default_factory=deque)
    head_since: float = 0.0
    overran: bool = False
    unfit: str | None = None
    alone: bool = False  # gets no other film until this one is finished

    @classmethod
    def start(cls, package: Path, setup: Setup, now: float) -> Self:
        """Start a screener on a package, and send it the setup.

        Raises:
            ScreenerTrouble: it cannot be started.
        """
        with ExitStack() as undo:
            try:
                ours, theirs = Channel.pair()
                undo.callback(ours.close)
                with theirs:
                    process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
                        [
                            sys.executable,
                            "-I",
                            "-m",
                            "worker.screening.screener",
                            str(theirs.fileno()),
                        ],
                        pass_fds=[theirs.fileno()],
                        env=_ENVIRONMENT,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    )
            except OSError as error:
                raise ScreenerTrouble(f"a screener cannot be started: {error}") from error
            undo.pop_all()
        child = cls(package, process, ours, now)
        child.send(setup)
        return child

    @property
    def room(self) -> int:
        """The number of films it can still take."""
        return 0 if self.alone or self.version is None else _QUEUE - len(self.jobs)

    def send(self, message: Message) -> None:
        """Send it a message."""
        # If it has ended, that is noticed when its channel is read.
        with suppress(OSError):
            self.channel.send(message)

    def hand(self, claim: Claim, job: Message, now: float, *, alone: bool) -> None:
        """Give it a film to screen."""
        if not self.jobs:
            self.head_since = now
        self.jobs.append(claim)
        self.alone = alone
        self.send(job)

    def extend_time(self, seconds: float) -> None:
        """Extend its time limits, because the loop was held up for this long."""
        self.head_since += seconds
        self.started += seconds

    def end(self, *, wait_seconds: float = 0.0) -> None:
        """Kill it, unless it exits within `wait_seconds`."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(wait_seconds)
        self.process.kill()
        self.process.wait()


class Pool:
    """Screener processes and the films they have in hand."""

    def __init__(self, inbox: Path, options: ScreenerOptions) -> None:
        """Prepare to keep screeners that read films below `inbox`. `serve` starts them."""
        self._inbox = inbox
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._screeners: list[_Child] = []
        self._serving: Path | None = None  # the package that gets films
        self._coming: Path | None = None  # the package that is being loaded to replace it
        self._retry_at = 0.0
        self._tended = inf  # time of the last `tend`
        self._failures = 0
        self.lacking = ""  # why screeners are missing, if they cannot be started
        self.ended = 0  # screeners that crashed or were ended for taking too long
        self._events: deque[PoolEvent] = deque()

    # The interface

    def serve(self, package: Path, now: float) -> None:
        """Start screeners on a package. They take over when all of them are ready.

        A package that was still loading is dropped. The one that serves continues.

        Raises:
            ScreenerTrouble: they cannot be started. Try again.
        """
        if package == self._coming:
            return
        self._coming = None
        self._retire()
        if package == self._serving:
            return
        self._coming = package
        try:
            for _ in range(self._options.count):
                self._start(package, now)
        except ScreenerTrouble:
            self._coming = None  # else those started would wait for the others for ever
            self._retire()
            raise

    @property
    def in_hand(self) -> int:
        """The number of films with screeners."""
        return sum(len(one.jobs) for one in self._screeners)

    @property
    def alive(self) -> int:
        """The number of screeners that can take films."""
        return len(self._ready())

    @property
    def capacity(self) -> int:
        """The largest number of films that can be with screeners."""
        return self._options.count * _QUEUE

    @property
    def room(self) -> int:
        """The number of films that can be submitted now."""
        return sum(one.room for one in self._ready())

    def submit(self, claim: Claim, now: float, *, alone: bool = False) -> bool:
        """Give a film to the least busy screener, or to an idle one alone.

        Returns:
            False if no screener has room now.
        """
        fits = [one for one in self._ready() if one.room and not (alone and one.jobs)]
        if not fits:
            return False
        screener = min(fits, key=lambda one: len(one.jobs))
        sighting = claim.sighting
        job = Job(scan_id=claim.scan_id, **asdict(sighting))
        screener.hand(claim, job, now, alone=alone)
        return True

    def watch(self, descriptor: int) -> None:
        """Make `poll` return early when this descriptor is readable."""
        self._selector.register(descriptor, selectors.EVENT_READ)

    def poll(self, timeout: float, now: float) -> Iterator[PoolEvent]:
        """Wait for events, at most `timeout` seconds, and yield them."""
        for key, _ in self._selector.select(0 if self._events else max(0.0, timeout)):
            if key.data in self._screeners:  # else it was removed a moment ago
                self._read_messages(key.data, now)
        while self._events:
            yield self._events.popleft()

    def tend(self, now: float) -> None:
        """End screeners that took too long, replace those that ended, retire old ones.

        Raises:
            ScreenerTrouble: no screener is left and none can be started, or none stays alive.
        """
        # The loop runs at least once a second. A longer gap was the loop's delay, not a screener's.
        stalled = max(0.0, now - self._tended - _LONGEST_TURN)
        self._tended = now
        for screener in list(self._screeners):
            screener.extend_time(stalled)
            if screener.jobs and now - screener.head_since > self._options.screen_seconds:
                screener.overran = True
                screener.process.kill()
            elif screener.version is None and now - screener.started > _LOAD_SECONDS:
                screener.process.kill()
        self._retire()
        if self._serving is not None and now >= self._retry_at:
            self._replace_missing(self._serving, now)
        if self._failures > 2 * self._options.count and not self._ready():
            raise ScreenerTrouble("screeners end as soon as they start")

    def close(self, *, wait_seconds: float = 5.0) -> list[Claim]:
        """Stop all screeners, and return the claims they had."""
        left = [claim for screener in self._screeners for claim in screener.jobs]
        for screener in self._screeners:
            screener.channel.close()
        for screener in self._screeners:
            screener.end(wait_seconds=0.0 if screener.jobs else wait_seconds)
        self._screeners.clear()
        self._selector.close()
        return left

    # Implementation

    def _ready(self) -> list[_Child]:
        return [
            one
            for one in self._screeners
            if one.version is not None
            and one.package == self._serving
            and not (one.overran or one.outside)
        ]

    def _replace_missing(self, package: Path, now: float) -> None:
        """Start screeners in place of those that ended."""
        ours = sum(one.package == package and not one.outside for one in self._screeners)
        try:
            for _ in range(self._options.count - ours):
                self._start(package, now)
            self.lacking = ""
        except ScreenerTrouble as error:
            if not self._ready():
                raise
            self.lacking = str(error)  # the remaining ones continue
            self._retry_at = now + _AGAIN_SECONDS

    def _start(self, package: Path, now: float) -> None:
        setup = Setup(
            inbox=str(self._inbox.absolute()),
            package=str(package.absolute()),
            limits=asdict(self._options.limits),
            memory_mb=self._options.memory_mb,
            predict_seconds=self._options.predict_seconds,
            screen_seconds=self._options.screen_seconds,
        )
        screener = _Child.start(package, setup, now)
        try:
            self._selector.register(screener.channel, selectors.EVENT_READ, screener)
        except OSError as error:
            screener.end()
            raise ScreenerTrouble(f"a screener cannot be started: {error}") from error
        self._screeners.append(screener)

    def _read_messages(self, screener: _Child, now: float) -> None:
        try:
            for _ in range(_MESSAGES_A_TURN):
                message = screener.channel.receive()
                if message is None:
                    return
                self._handle(screener, message, now)
        except (ValueError, EOFError, OSError):  # it ended, or sent an invalid message
            if screener in self._screeners:
                self._handle_end(screener, now)

    def _handle(self, screener: _Child, message: Message, now: float) -> None:
        head = screener.jobs[0] if screener.jobs else None
        match message:
            case Ready(model_version=str()) if screener.version is None:
                screener.version, screener.unfenced = message.model_version, message.unfenced
                self._failures = 0
                self._take_over()
            case Unfit(why=str()) if screener.version is None:
                screener.unfit = message.why
            case Result(scan_id=scan_id) if head is not None and head.scan_id == scan_id:
                screener.jobs.popleft()
                screener.head_since = now
                screener.alone = False
                screener.outside |= message.sentence == _FENCED_OUT and self._inbox_moved(head)
                self._events.append(
                    Screened(claim=head, result=message, model_version=screener.version or "")
                )
            case _:
                raise ValueError("unexpected message")

    def _inbox_moved(self, claim: Claim) -> bool:
        """Whether this process can open a film that a screener may not open.

        A screener's sandbox is tied to the folder that was the inbox at its start. If a share was
        mounted again, the inbox is another folder, and a new screener is needed.
        """
        path = os.path.join(os.fsencode(self._inbox), bytes_of(claim.sighting.name))
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def _take_over(self) -> None:
        """Put the loaded package into service once all of its screeners are ready."""
        coming = [one for one in self._screeners if one.package == self._coming]
        versions = {(one.version, one.unfenced) for one in coming}
        ready = all(one.version is not None for one in coming)
        if self._coming is None or not ready or len(coming) < self._options.count:
            return
        self._serving, self._coming = self._coming, None
        for version, unfenced in versions:
            self._events.append(Serving(model_version=str(version), unfenced=unfenced))
        self._retire()

    def _retire(self) -> None:
        """Remove idle screeners on a package that no longer serves."""
        for screener in list(self._screeners):
            wanted = screener.package in (self._serving, self._coming)
            if (screener.outside or not wanted) and not screener.jobs:
                self._remove(screener)

    def _handle_end(self, screener: _Child, now: float) -> None:
        """Replace a screener that ended, and hand back its films."""
        self._remove(screener)
        self.ended += 1
        code = screener.process.returncode
        if screener.jobs:
            self._events.append(
                Died(
                    claim=screener.jobs[0],
                    overran=screener.overran,
                    how=f"signal {-code}" if code < 0 else f"exit {code}",
                )
            )
            for claim in list(screener.jobs)[1:]:
                self._events.append(HandedBack(claim=claim))
        if screener.version is None:
            self._failures += 1
            self._retry_at = now + doubling(self._failures, first=0.5, longest=30.0)
        if screener.package == self._coming:  # ready or not, because all take over together
            self._give_up(screener)

    def _give_up(self, screener: _Child) -> None:
        """Stop loading a package if one of its screeners ended before it served."""
        why = screener.unfit or f"{screener.package.name}: its screener ended before it served"
        proven = screener.unfit is not None
        self._events.append(NotServing(package=screener.package, why=why, proven=proven))
        self._coming = None
        self._retire()

    def _remove(self, screener: _Child) -> None:
        self._screeners.remove(screener)
        self._selector.unregister(screener.channel)
        screener.end()  # it is idle or has ended, so a signal loses nothing
