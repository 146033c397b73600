"""The loop: events and listing in, films through the pipeline, until told to stop.

`Service.step(now)` does the work and takes the time as an argument; `run` is thin. Trouble of our
own never ends the loop: it is noted, said once, backed off from, and gone when it is gone.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType
from typing import Any

from worker.errors import (
    ModelPackageError,
    OwnTrouble,
    RegistryError,
    ScreenerTrouble,
    StorageTrouble,
)
from worker.inbox import Inbox
from worker.model import Manifest
from worker.notify import Notifier
from worker.pipeline import Pipeline, Policy
from worker.pool import Event, NotServing, Pool, Serving
from worker.process import StopSignals, is_running
from worker.records import Outcome
from worker.registry import Registry
from worker.reporting import Reporter
from worker.stability import Tracker
from worker.store import Store
from worker.trouble import Troubles
from worker.watcher import Watcher

_LISTED_A_STEP = 512  # names: a step stays short however full the inbox is
_BEAT_SECONDS = 5.0
_CHAMPION_SECONDS = 1.0  # between looks at which model should serve
_LONGEST_WAIT = 1.0
_STOP_SECONDS = 20.0  # for films in hand to come back when told to stop
_ONCE_TRIES = 4  # that `run_once` makes before it gives up on trouble of our own


class Ending(IntEnum):
    """How a run ended, as an exit status."""

    WELL = 0
    COULD_NOT = 1  # the worker itself could not do its job


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often the service does what."""

    scan_seconds: float
    lease_seconds: float


class Service:
    """The worker, put together."""

    def __init__(
        self,
        *,
        store: Store,
        inbox: Inbox,
        pool: Pool,
        registry: Registry,
        reporter: Reporter,
        notifier: Notifier,
        pace: Pace,
        policy: Policy,
        settle_seconds: float,
    ) -> None:
        """Join the parts. Nothing is started before `run`."""
        self._store = store
        self._inbox = inbox
        self._pool = pool
        self._registry = registry
        self._reporter = reporter
        self._notifier = notifier
        self._pace = pace
        self._tracker = Tracker(settle_seconds=settle_seconds)
        self._troubles = Troubles()
        self._manifests: dict[str, Manifest] = {}
        self._pipeline = Pipeline(
            store=store,
            inbox=inbox,
            pool=pool,
            tracker=self._tracker,
            policy=policy,
            manifest_of=self._manifest_of,
            tell=self._tell,
        )
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._watcher = Watcher(inbox.folder, self._wake)
        self._listing: Iterator[str] | None = None
        self._listed_once = False
        self._next_listing = 0.0
        self._next_beat = 0.0
        self._next_champion = 0.0
        self._wanted: str | None = None  # the version last asked of the pool
        self._model: str | None = None  # the version that serves
        self._refused_model: str | None = None
        self._model_problem: str | None = None  # why the champion does not serve
        self._done = 0
        # (time, films done) at each beat
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=120)
        self._stops = 0
        self._ready_said = False

    # Running

    def run(self, *, once: bool = False, clock: Callable[[], float] = time.monotonic) -> Ending:
        """Work until told to stop; with `once`, until the inbox is worked off.

        Returns:
            With `once`, whether all there was could be screened or refused. Else WELL.
        """
        self._pool.watch(self._wake_read)
        with StopSignals(self._on_signal, self._wake_write):
            try:
                while not self._stops:
                    self.step(clock())
                    if once and (ending := self._once_over()) is not None:
                        return ending
                return Ending.WELL
            finally:
                self._stop(clock)

    def step(self, now: float) -> None:
        """Do everything that can be done now, and wait for the next thing to happen."""
        self._notifier.ping(now)
        try:
            if now >= self._troubles.retry_at:
                self._work(now)
                for past in self._troubles.over():
                    self._reporter.over(past, now)
            self._beat(now)
        except OwnTrouble as error:
            if self._troubles.note(error, now):
                self._reporter.trouble(self._troubles.now[error.kind])
        events = self._pool.poll(self._patience(now), now)
        self._pipeline.collect(self._models(events), now)
        self._drain_wake()

    def _work(self, now: float) -> None:
        """The story of a scan, as far as it goes now."""
        self._mind_model(now)
        self._pool.tend(now)
        self._look_around(now)
        self._pipeline.settle(now)
        self._pipeline.record(now)
        self._pipeline.file_away(now)
        self._pipeline.claim(now)
        self._pipeline.dispatch(now)
        if not self._ready_said and self._listed_once and self._model:
            self._ready_said = True
            self._notifier.ready()
        self._reporter.progress(done=self._done, waiting=self._backlog())

    def _look_around(self, now: float) -> None:
        """Take in what events tell, and list the inbox when it is time or events are in doubt."""
        if self._watcher.follow(self._inbox.identity()) or self._watcher.doubts():
            self._next_listing = now
        for name in self._watcher.names():
            self._pipeline.notice(name, now)
        if self._listing is None and now >= self._next_listing:
            self._listing = self._inbox.names()
            self._pipeline.recover(
                older_than_seconds=self._pace.lease_seconds if self._listed_once else 0.0
            )
        self._list(now)

    def _list(self, now: float) -> None:
        """Go on with the listing, a little at a time."""
        for _ in range(_LISTED_A_STEP):
            if self._listing is None or not self._pipeline.wants_names:
                return
            try:
                name = next(self._listing, None)
            except StorageTrouble:
                self._listing = None  # start anew when it is over
                raise
            if name is None:
                self._listing = None
                self._listed_once = True
                self._next_listing = now + self._pace.scan_seconds
            else:
                self._pipeline.notice(name, now)

    def _patience(self, now: float) -> float:
        """How long to wait for something to happen, in seconds."""
        if self._troubles.now:
            return min(_LONGEST_WAIT, max(0.01, self._troubles.retry_at - now))
        times = [self._next_beat, self._next_listing, self._next_champion]
        if self._listing is not None and self._pipeline.wants_names:
            return 0.0
        due = self._pipeline.next_due(now)
        if due is not None:
            times.append(due)
        return min(_LONGEST_WAIT, max(0.0, min(times) - now))

    def _once_over(self) -> Ending | None:
        """Whether `run_once` is done, and how it ended."""
        stuck = [trouble for trouble in self._troubles.now.values() if trouble.count >= _ONCE_TRIES]
        if stuck:
            return Ending.COULD_NOT
        if self._troubles.now or not self._listed_once or self._listing is not None:
            return None
        if not self._pipeline.idle or len(self._tracker) > len(self._pipeline.unreadable):
            return None
        return Ending.COULD_NOT if self._pipeline.unreadable else Ending.WELL

    def _stop(self, clock: Callable[[], float]) -> None:
        """Let films in hand come back, record them, and leave nothing claimed."""
        self._notifier.stopping()
        self._reporter.close()
        deadline = clock() + _STOP_SECONDS
        while self._pool.in_hand and clock() < deadline and self._stops < 2:
            now = clock()
            self._notifier.ping(now)
            self._pipeline.collect(self._models(self._pool.poll(0.2, now)), now)
            self._drain_wake()
            self._pool.tend(now)
        self._pipeline.abandon(self._pool.close())
        self._watcher.stop()
        try:
            self._pipeline.record(clock())
            self._pipeline.recover()
            self._pipeline.file_away(clock())
            self._pipeline.record(clock())
            self._store.beat(self._report(), lease_seconds=self._pace.lease_seconds, stopped=True)
        except OwnTrouble as error:  # the next start finishes it
            self._troubles.note(error, clock())
            self._reporter.trouble(self._troubles.now[error.kind])
        self._reporter.event("stopped", screened=self._done)

    # The model

    def _mind_model(self, now: float) -> None:
        """Bring the champion into service when there is a new one, and keep the old if it fails.

        Raises:
            ScreenerTrouble: no model serves, and none can.
        """
        if now >= self._next_champion:
            self._next_champion = now + _CHAMPION_SECONDS
            try:
                self._follow_champion(now)
            except (RegistryError, ModelPackageError) as error:
                self._model_problem = str(error)
        if self._model is None and self._model_problem:
            raise ScreenerTrouble(f"no model can serve: {self._model_problem}")

    def _follow_champion(self, now: float) -> None:
        champion = self._registry.serving()
        # One that was refused is tried again only where there is no other to serve meanwhile.
        refused = champion == self._refused_model and self._model is not None
        if refused or champion == self._wanted:
            return
        manifest = self._manifest_of(champion)
        self._store.register_model(manifest)
        self._wanted = champion
        self._pool.serve(self._registry.folder(champion), now)

    def _models(self, events: Iterator[Event]) -> Iterator[Event]:
        """Deal with what concerns models, and pass on what concerns films."""
        for event in events:
            match event:
                case Serving(model_version=version):
                    if self._model is not None:
                        self._reporter.event("model swapped", model=version)
                    self._model = version
                    self._refused_model = self._model_problem = None
                case NotServing(package=package, why=why):
                    if self._refused_model != package.name:
                        self._reporter.event("model refused", model=package.name, why=why)
                    self._refused_model, self._model_problem = package.name, why
                    self._wanted = self._model
                case _:
                    yield event

    def _manifest_of(self, version: str) -> Manifest:
        if version not in self._manifests:
            self._manifests[version] = self._registry.manifest(version)
        return self._manifests[version]

    # Saying how things stand

    def _tell(self, outcome: Outcome) -> None:
        self._done += 1
        self._reporter.outcome(outcome)

    def _backlog(self) -> int:
        return self._pipeline.waiting + self._pipeline.in_hand

    def _beat(self, now: float) -> None:
        if now < self._next_beat:
            return
        self._recent.append((now, self._done))
        self._adopt_orphans()
        self._store.beat(self._report(), lease_seconds=self._pace.lease_seconds)
        self._next_beat = now + _BEAT_SECONDS
        self._notifier.status(
            f"model {self._model or 'none'}, {self._done} screened, {self._backlog()} waiting"
        )

    def _adopt_orphans(self) -> None:
        """Take over at once what workers that died on this host had in hand."""
        dead = [one.name for one in self._store.companions() if not is_running(one)]
        self._store.adopt_orphans(dead)

    def _report(self) -> dict[str, Any]:
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        seconds = ended - began
        try:
            others = self._inbox.count_others() if self._listed_once else {}
        except StorageTrouble:
            others = {}
        return {
            "model": self._model,
            "model_refused": self._model_problem,
            "backlog": self._backlog(),
            "in_hand": self._pipeline.in_hand,
            "unreadable": len(self._pipeline.unreadable),
            "passed_over": others,
            "films_per_second": round((after - before) / seconds, 2) if seconds else 0.0,
            "screeners": self._pool.alive,
            "events": self._watcher.by_events,
            "trouble": "; ".join(map(str, self._troubles.now.values())) or None,
            "last_trouble": str(self._troubles.last) if self._troubles.last else None,
        }

    # Signals and waking

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it will wake anyway
            os.write(self._wake_write, b"w")

    def _drain_wake(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
