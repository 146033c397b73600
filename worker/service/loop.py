"""The loop: takes in events and listings, and moves films through the pipeline until stopped.

`Service.step(now)` does the work and takes the time as an argument; `run` is thin. Own trouble
never ends the loop: it is noted, logged once, and retried with back-off.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType

from worker.db.scans import Store
from worker.db.sharing import Crew, Sharing
from worker.errors import (
    OwnTrouble,
    ScreenerTrouble,
)
from worker.inbox.folders import Inbox
from worker.inbox.scanner import Lookout
from worker.inbox.watcher import Watcher
from worker.model.registry import Registry
from worker.monitoring.events import (
    Backlog,
    Notice,
    Reporter,
    ScanEnded,
    Standing,
    Stopping,
    TroubleBegan,
    TroubleEnded,
)
from worker.screening.pool import NotServing, Pool, PoolEvent, Serving
from worker.service.model_swap import ModelKeeper
from worker.service.pipeline import Pipeline, Policy
from worker.service.sd_notify import Notifier
from worker.system.processes import StopSignals, Wakeup
from worker.system.trouble import Troubles
from worker.types import Outcome, WorkerReport

_BEAT_SECONDS = 5.0
_LONGEST_WAIT = 1.0
_STOP_SECONDS = 20.0  # to finish films in hand after a stop
_ONCE_TRIES = 4  # with `once`, until own trouble ends the run


class Ending(IntEnum):
    """The result of a run, as an exit status."""

    WELL = 0
    COULD_NOT = 1  # the worker could not work


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Intervals of the service."""

    scan_seconds: float
    lease_seconds: float


class Service:
    """The assembled worker."""

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
        prepare: Callable[[], object],
    ) -> None:
        """Connect the parts. Nothing starts before `run`, which calls `prepare` first."""
        self._prepare = prepare
        self._prepared = False
        self._store = store
        self._inbox = inbox
        self._pool = pool
        self._reporter = reporter
        self._notifier = notifier
        self._pace = pace
        self._keeps = policy.keep_in_inbox
        self._troubles = Troubles()
        self._keeper = ModelKeeper(registry, pool, store, reporter.emit)
        self._pipeline = Pipeline(
            store=store,
            inbox=inbox,
            pool=pool,
            policy=policy,
            manifest_of=self._keeper.manifest_of,
            on_outcome=self._on_outcome,
        )
        self._wakeup = Wakeup()
        self._lookout = Lookout(
            inbox, Watcher(inbox.folder, self._wakeup.ring), scan_seconds=pace.scan_seconds
        )
        self._sharing = Sharing(store)
        self._crew = Crew()
        self._next_beat = self._next_standing = 0.0
        self._done = 0
        self._lacking = ""  # what was last reported of missing screeners
        # (time, films done) at each beat.
        self._recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=120)
        self._once = False
        self._stops = 0
        self._ready_sent = False

    # Running

    def run(self, *, once: bool = False, clock: Callable[[], float] = time.monotonic) -> Ending:
        """Work until stopped; with `once`, until the films in the inbox are done.

        Returns:
            With `once`, whether all films could be screened or refused. Else WELL.
        """
        self._once = once
        with self._wakeup, StopSignals(self._on_signal, self._wakeup.writer):
            self._pool.watch(self._wakeup.reader)
            try:
                while not self._stops:
                    self.step(clock())
                    if once and (ending := self._once_over()) is not None:
                        return ending
                return Ending.WELL
            finally:
                self._stop(clock)

    def step(self, now: float) -> None:
        """Do everything that can be done now, then wait for events."""
        self._notifier.ping(now)
        if now >= self._next_standing:
            self._reporter.emit(Standing(report=self._report(now)))
            self._next_standing = now + _BEAT_SECONDS
        try:
            if now >= self._troubles.retry_at:
                if not self._prepared:
                    self._prepare()
                    self._prepared = True
                self._beat(now)  # first, because an idle inbox needs the database for nothing else
                self._work(now)
                for past in self._troubles.over():
                    self._reporter.emit(TroubleEnded(trouble=past, seconds=now - past.since))
        except OwnTrouble as error:
            self._note(error, now)
        events = self._films(self._pool.poll(self._patience(now), now))
        try:
            self._pipeline.collect(events, now)
        except OwnTrouble as error:
            self._note(error, now)
        self._wakeup.drain()

    def _note(self, error: OwnTrouble, now: float) -> None:
        if self._troubles.note(error, now):
            self._reporter.emit(TroubleBegan(trouble=self._troubles.now[error.kind]))

    def _work(self, now: float) -> None:
        """Take each film one step further, as far as possible now."""
        self._keeper.mind(now)
        self._tend(now)
        self._look_around(now)
        self._pipeline.settle(now)
        self._pipeline.record(now)
        self._pipeline.file_away(now)
        if not self._once:  # with `once` this worker does all films itself
            self._pipeline.share(self._crew, now)
        self._pipeline.claim(now)
        self._pipeline.dispatch(now)
        # The listing of a large backlog takes as long as screening it, so do not wait for its end.
        if not self._ready_sent and self._lookout.can_list and self._keeper.serving:
            self._ready_sent = True
            self._notifier.ready()
        self._reporter.emit(Backlog(done=self._done, waiting=self._backlog()))

    def _tend(self, now: float) -> None:
        """Tend the screeners; report once that some are missing, and that they were replaced."""
        self._pool.tend(now)
        before, self._lacking = self._lacking, self._pool.lacking
        if self._lacking and not before:
            self._notice("screeners lacking", why=self._lacking)
        elif before and not self._lacking:
            self._notice("screeners replaced")

    def _look_around(self, now: float) -> None:
        """Take in events and the listing; finish what a crash left."""
        if self._lookout.is_due(now):
            lease = self._pace.lease_seconds if self._lookout.listed_once else 0.0
            # With `once`, this worker must see itself that nothing is left.
            lists = self._crew.lists or self._once
            self._pipeline.recover(older_than_seconds=lease, lists=lists)
            # Films that stay in the inbox are not offered: each worker lists its own.
            self._lookout.begin(now, another_lists=not (lists or self._keeps))
            if self._lookout.listing:
                self._pipeline.begin_listing()
        pipeline = self._pipeline
        self._lookout.look(now, notice=pipeline.notice, has_room=lambda: pipeline.wants_names)

    def _patience(self, now: float) -> float:
        """Return how long to wait for events, in seconds."""
        if self._troubles.now:
            return min(_LONGEST_WAIT, max(0.01, self._troubles.retry_at - now))
        times = [self._next_beat, self._lookout.next_listing, self._keeper.next_look]
        if self._lookout.listing and self._pipeline.wants_names:
            return 0.0
        due = self._pipeline.next_due(now)
        if due is not None:
            times.append(due)
        return min(_LONGEST_WAIT, max(0.0, min(times) - now))

    def _once_over(self) -> Ending | None:
        """Return the ending if a run with `once` is over, else None."""
        stuck = [trouble for trouble in self._troubles.now.values() if trouble.count >= _ONCE_TRIES]
        if stuck:
            return Ending.COULD_NOT
        if self._troubles.now or not self._lookout.listed_once or self._lookout.listing:
            return None
        if not self._pipeline.idle or self._pipeline.awaited > len(self._pipeline.unreadable):
            return None
        left = self._pipeline.unreadable or self._pipeline.stuck
        return Ending.COULD_NOT if left else Ending.WELL

    def _stop(self, clock: Callable[[], float]) -> None:
        """Finish and record films in hand, and release all claims."""
        self._notifier.stopping()
        self._reporter.emit(Stopping())
        deadline = clock() + _STOP_SECONDS
        while self._pool.in_hand and clock() < deadline and self._stops < 2:
            now = clock()
            self._notifier.ping(now)
            self._pipeline.collect(self._films(self._pool.poll(0.2, now)), now)
            self._wakeup.drain()
            with suppress(ScreenerTrouble):  # none is needed any more
                self._pool.tend(now)
        self._pipeline.abandon(self._pool.close())
        self._lookout.stop()
        try:
            self._pipeline.record(clock())
            self._pipeline.recover(lists=self._crew.lists or self._once)
            self._pipeline.file_away(clock())
            self._pipeline.record(clock())
            report = self._report(clock())
            self._store.beat(report, lease_seconds=self._pace.lease_seconds, stopped=True)
        except OwnTrouble as error:  # the next start finishes it
            self._note(error, clock())
        self._notice("stopped", screened=self._done)

    def _films(self, events: Iterator[PoolEvent]) -> Iterator[PoolEvent]:
        """Yield events about films; give those about models to the keeper."""
        for event in events:
            if isinstance(event, Serving | NotServing):
                self._keeper.take(event)
            else:
                yield event

    # Reports

    def _on_outcome(self, outcome: Outcome) -> None:
        self._done += 1
        self._reporter.emit(ScanEnded(outcome=outcome))

    def _notice(self, name: str, **fields: object) -> None:
        self._reporter.emit(Notice(name=name, fields=fields))

    def _backlog(self) -> int:
        return self._pipeline.waiting + self._pipeline.in_hand

    def _beat(self, now: float) -> None:
        if now < self._next_beat and not self._keeper.has_news:
            return
        self._recent.append((now, self._done))
        self._sharing.adopt_orphans()
        self._store.beat(self._report(now), lease_seconds=self._pace.lease_seconds)
        self._crew = self._sharing.crew(lease_seconds=self._pace.lease_seconds)
        # Renew a lease well before it runs out, however short it is.
        self._next_beat = now + min(_BEAT_SECONDS, self._pace.lease_seconds / 4)
        self._keeper.has_news = False
        model = self._keeper.serving or "none"
        self._notifier.status(f"model {model}, {self._done} screened, {self._backlog()} waiting")

    def _report(self, now: float) -> WorkerReport:
        oldest = self._pipeline.oldest_since
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        seconds = ended - began
        return WorkerReport(
            model=self._keeper.serving,
            population=self._keeper.population,
            model_refused=self._keeper.problem,
            backlog=self._backlog(),
            in_hand=self._pipeline.in_hand,
            oldest_seconds=0.0 if oldest is None else round(max(0.0, now - oldest), 1),
            unreadable=len(self._pipeline.unreadable),
            stuck=self._pipeline.stuck,
            passed_over=self._inbox.others,
            films_per_second=round((after - before) / seconds, 2) if seconds else 0.0,
            screeners=self._pool.alive,
            screeners_ended=self._pool.ended,
            unfenced=self._keeper.unfenced,
            events=self._lookout.by_events,
            lists=self._crew.lists,
            trouble="; ".join(map(str, self._troubles.now.values())) or None,
            last_trouble=str(self._troubles.last) if self._troubles.last else None,
        )

    # Signals

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1
