"""Keeps screeners alive: starts them, hands them films, times them out, replaces them.

Each screener has a short queue of films so that it never waits for its parent; the one at the
head is the one it reads. When a screener ends, only that film is held to account, the others go
back unharmed. A new model is served by new screeners: they come up and check the package first,
then the old ones finish what they have and go.
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

_QUEUE = 12  # films with one screener: enough to bridge a commit
# Nothing of our surroundings reaches a screener. One thread each: the processes are the threads.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
_LONGEST_TURN = 2.0  # seconds between two looks at screeners, if the loop is well
_LOAD_SECONDS = 60.0  # to load and check a package before its screener is given up
_AGAIN_SECONDS = 5.0  # before a screener that could not be replaced is again tried to be
_FENCED_OUT = "EACCES"  # what a screener is told of a film beyond its fence
_HEARD_A_TURN = 64  # messages of one screener, before the others have theirs


@dataclass(frozen=True, kw_only=True)
class Screened:
    """A screener is done with a film."""

    claim: Claim
    result: Result
    model_version: str


@dataclass(frozen=True, kw_only=True)
class Died:
    """A screener ended while it read this film: by itself, or ended for taking too long."""

    claim: Claim
    overran: bool
    how: str


@dataclass(frozen=True, kw_only=True)
class HandedBack:
    """A film that waited behind one that ended its screener. It was not looked at."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Every screener serves this model version from now on."""

    model_version: str
    unfenced: str = ""  # what of their fence could not be put up


@dataclass(frozen=True, kw_only=True)
class NotServing:
    """This package could not be taken into service; the one before it serves on."""

    package: Path
    why: str
    proven: bool = True  # the package itself is at fault; else it may do another time


PoolEvent = Screened | Died | HandedBack | Serving | NotServing


@dataclass(eq=False)
class _Child:
    """A screener as its parent has it: process, channel, and the films it was handed."""

    package: Path
    process: subprocess.Popen[bytes]
    channel: Channel
    started: float  # monotonic seconds
    version: str | None = None  # once ready
    unfenced: str = ""  # what of its fence could not be put up
    outside: bool = False  # its fence stands around an inbox that is gone
    jobs: deque[Claim] = field(default_factory=deque)
    head_since: float = 0.0
    overran: bool = False
    unfit: str | None = None
    alone: bool = False  # takes no other film until it is done with this one

    @classmethod
    def start(cls, package: Path, setup: Setup, now: float) -> Self:
        """Start a screener on a package, and tell it what it needs to know.

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
        """How many more films it can be handed."""
        return 0 if self.alone or self.version is None else _QUEUE - len(self.jobs)

    def send(self, message: Message) -> None:
        """Send it a message."""
        # One that has ended is found out, and what it had dealt with, when it is read from.
        with suppress(OSError):
            self.channel.send(message)

    def hand(self, claim: Claim, job: Message, now: float, *, alone: bool) -> None:
        """Give it a film to screen."""
        if not self.jobs:
            self.head_since = now
        self.jobs.append(claim)
        self.alone = alone
        self.send(job)

    def forgive(self, seconds: float) -> None:
        """Count so much of the time that it took as not its own."""
        self.head_since += seconds
        self.started += seconds

    def end(self, *, wait_seconds: float = 0.0) -> None:
        """End it: at once, or if it has not gone by itself within so many seconds."""
        self.channel.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(wait_seconds)
        self.process.kill()
        self.process.wait()


class Pool:
    """Screener processes and what they have in hand."""

    def __init__(self, inbox: Path, options: ScreenerOptions) -> None:
        """Prepare to keep screeners that read films below `inbox`. None starts before `serve`."""
        self._inbox = inbox
        self._options = options
        self._selector = selectors.DefaultSelector()
        self._screeners: list[_Child] = []
        self._serving: Path | None = None  # what films go to
        self._coming: Path | None = None  # what is coming up to replace it
        self._retry_at = 0.0
        self._tended = inf  # when screeners were last tended
        self._failures = 0
        self.lacking = ""  # why there are fewer screeners than there should be, if they cannot be
        self.ended = 0  # screeners that ended unasked, or were ended for taking too long
        self._events: deque[PoolEvent] = deque()

    # What the service asks of it

    def serve(self, package: Path, now: float) -> None:
        """Bring up screeners on a package; they take over when all of them are ready.

        What was coming up before is given up; what serves already serves on.

        Raises:
            ScreenerTrouble: they cannot be started. Ask again.
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
            self._coming = None  # some of them would wait for the others for ever
            self._retire()
            raise

    @property
    def in_hand(self) -> int:
        """How many films are with screeners."""
        return sum(len(one.jobs) for one in self._screeners)

    @property
    def alive(self) -> int:
        """How many screeners can take films."""
        return len(self._ready())

    @property
    def capacity(self) -> int:
        """How many films may be with screeners at most."""
        return self._options.count * _QUEUE

    @property
    def room(self) -> int:
        """How many more films can be handed out now."""
        return sum(one.room for one in self._ready())

    def submit(self, claim: Claim, now: float, *, alone: bool = False) -> bool:
        """Hand a film to the least busy screener, or to an idle one all to itself.

        Returns:
            False where there is none with room now.
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
        """End `poll` early when this descriptor can be read."""
        self._selector.register(descriptor, selectors.EVENT_READ)

    def poll(self, timeout: float, now: float) -> Iterator[PoolEvent]:
        """Wait until something happens, at most `timeout` seconds, and yield what did."""
        for key, _ in self._selector.select(0 if self._events else max(0.0, timeout)):
            if key.data in self._screeners:  # and not let go of a moment ago
                self._listen(key.data, now)
        while self._events:
            yield self._events.popleft()

    def tend(self, now: float) -> None:
        """End screeners that overran, replace those that ended, let the superseded go.

        Raises:
            ScreenerTrouble: no screener is left, and none can be started or lives.
        """
        # The loop comes round every second. If it did not, it was held up, and not the screeners.
        stalled = max(0.0, now - self._tended - _LONGEST_TURN)
        self._tended = now
        for screener in list(self._screeners):
            screener.forgive(stalled)
            if screener.jobs and now - screener.head_since > self._options.screen_seconds:
                screener.overran = True
                screener.process.kill()
            elif screener.version is None and now - screener.started > _LOAD_SECONDS:
                screener.process.kill()
        self._retire()
        if self._serving is not None and now >= self._retry_at:
            self._make_up(self._serving, now)
        if self._failures > 2 * self._options.count and not self._ready():
            raise ScreenerTrouble("screeners end as soon as they are started")

    def close(self, *, wait_seconds: float = 5.0) -> list[Claim]:
        """Stop every screener. Returns the claims they had."""
        left = [claim for screener in self._screeners for claim in screener.jobs]
        for screener in self._screeners:
            screener.channel.close()
        for screener in self._screeners:
            screener.end(wait_seconds=0.0 if screener.jobs else wait_seconds)
        self._screeners.clear()
        self._selector.close()
        return left

    # How it does it

    def _ready(self) -> list[_Child]:
        return [
            one
            for one in self._screeners
            if one.version is not None
            and one.package == self._serving
            and not (one.overran or one.outside)
        ]

    def _make_up(self, package: Path, now: float) -> None:
        """Start screeners in place of those that have gone."""
        ours = sum(one.package == package and not one.outside for one in self._screeners)
        try:
            for _ in range(self._options.count - ours):
                self._start(package, now)
            self.lacking = ""
        except ScreenerTrouble as error:
            if not self._ready():
                raise
            self.lacking = str(error)  # and those that are left go on
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

    def _listen(self, screener: _Child, now: float) -> None:
        try:
            for _ in range(_HEARD_A_TURN):
                message = screener.channel.receive()
                if message is None:
                    return
                self._hear(screener, message, now)
        except (ValueError, EOFError, OSError):  # it ended, or speaks nonsense: as good as ended
            if screener in self._screeners:
                self._bury(screener, now)

    def _hear(self, screener: _Child, message: Message, now: float) -> None:
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
                raise ValueError("out of turn")

    def _inbox_moved(self, claim: Claim) -> bool:
        """Whether a film that a screener may not open can be opened.

        A screener is fenced into the folder that was the inbox when it started. Where a share was
        mounted anew it is another, and so must the screener be.
        """
        path = os.path.join(os.fsencode(self._inbox), bytes_of(claim.sighting.name))
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def _take_over(self) -> None:
        """Serve the coming package once all of its screeners are ready."""
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
        """Let go of idle screeners on a package that is no longer served."""
        for screener in list(self._screeners):
            wanted = screener.package in (self._serving, self._coming)
            if (screener.outside or not wanted) and not screener.jobs:
                self._remove(screener)

    def _bury(self, screener: _Child, now: float) -> None:
        """Deal with a screener that ended."""
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
        if screener.package == self._coming:  # be it ready or not: they take over all together
            self._give_up(screener)

    def _give_up(self, screener: _Child) -> None:
        """Stop bringing up a package, one of whose screeners ended before it served."""
        why = screener.unfit or f"{screener.package.name}: its screener ended before it served"
        proven = screener.unfit is not None
        self._events.append(NotServing(package=screener.package, why=why, proven=proven))
        self._coming = None
        self._retire()

    def _remove(self, screener: _Child) -> None:
        self._screeners.remove(screener)
        self._selector.unregister(screener.channel)
        screener.end()  # it is idle, or has ended: a signal changes nothing then
