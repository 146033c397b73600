"""Screens an archive in place: with the same screeners and rows, without moving files.

A film's row has state `kept` and its absolute path as name. A run that starts again offers every
film, and the claim returns those that have their verdict. So it continues where it stopped, and
several may work on one archive.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from worker.db.scans import Store
from worker.db.sharing import Sharing
from worker.errors import FilmStuck, ModelPackageError, OwnTrouble
from worker.inbox.folders import Inbox
from worker.model.manifest import Manifest, read_manifest
from worker.screening.pool import NotServing, Pool, PoolEvent, Serving
from worker.service.pipeline import Pipeline, Policy
from worker.system.filenames import spell
from worker.system.folders import Folders
from worker.system.trouble import Trouble, Troubles
from worker.types import BackfillReport, Outcome

_BEAT_SECONDS = 5.0
_LONGEST_WAIT = 1.0
_AHEAD = 512  # films known and not yet claimed
_TRIES = 3  # to read a film, before it is given up
_STOP_SECONDS = 20.0  # to finish films in hand after a stop


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The films of an archive so far, by outcome."""

    predicted: int = 0
    refused: int = 0
    before: int = 0  # had a verdict before
    missing: int = 0  # listed, but not a regular file
    unreadable: int = 0  # exist, but cannot be read

    @property
    def films(self) -> int:
        """The number of films with an outcome."""
        return self.predicted + self.refused + self.before + self.missing + self.unreadable


class Backfill:
    """Screeners on one model, while the context lasts, and the loop that feeds them."""

    def __init__(
        self,
        *,
        store: Store,
        pool: Pool,
        package: Path,
        policy: Policy,
        root: Path,
        note: Callable[[Trouble], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to screen with the model in `package`.

        Args:
            store: for the rows.
            pool: screeners restricted to `root`; entering the context starts them.
            package: of the model.
            policy: films are kept in place, and listed once.
            root: the folder with the films.
            note: called once for each kind of trouble.
            clock: monotonic seconds.
        """
        self._store = store
        self._pool = pool
        self._package = package
        self._root = root
        self._note = note
        self._clock = clock
        self._manifest = read_manifest(package)
        self._inbox = Inbox(Folders(inbox=root, archive=root, refused=root))
        self._lease_seconds = policy.lease_seconds
        self._pipeline = Pipeline(
            store=store,
            inbox=self._inbox,
            pool=pool,
            policy=policy,
            manifest_of=self._manifest_of,
            on_outcome=self._count,
        )
        self._sharing = Sharing(store)
        self._troubles = Troubles()
        self._ended: Counter[str] = Counter()  # predicted, refused, missing
        self._next_beat = 0.0

    def __enter__(self) -> Self:
        """Start the screeners.

        Raises:
            ModelPackageError: the model is not fit to serve.
            DatabaseTrouble: the database failed at the start.
            ScreenerTrouble: screeners cannot be started.
        """
        self._store.register_model(self._manifest)
        self._pool.serve(self._package, self._clock())
        while not self._pool.alive:
            now = self._clock()
            for event in self._pool.poll(_LONGEST_WAIT, now):
                if isinstance(event, NotServing):
                    self._pool.close()
                    raise ModelPackageError(event.why)
            self._pool.tend(now)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish and record films in hand, and release all claims."""
        deadline = self._clock() + _STOP_SECONDS
        while self._pool.in_hand and error is None and self._clock() < deadline:
            now = self._clock()
            self._pipeline.collect(self._pool.poll(0.2, now), now)
        self._pipeline.abandon(self._pool.close())
        try:
            self._pipeline.record(self._clock())
            self._store.beat(self._report(), lease_seconds=self._lease_seconds, stopped=True)
        except OwnTrouble:
            if error is None:  # leases run out, and another run finishes the films
                raise

    def screen(
        self,
        names: Iterable[str],
        *,
        progress: Callable[[Tally], object] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Screen films by their absolute paths, and return all outcomes so far.

        Own trouble is waited out, as in a worker. `progress` is called on every turn. If `stopped`
        returns True, films may be left.
        """
        left = iter(names)
        more = True
        while not stopped() and (more or not self._is_over()):
            now = self._clock()
            more = self._turn(left, now, more=more)
            self._pipeline.collect(
                self._films(self._pool.poll(self._wait(now, more=more), now)), now
            )
            progress(self.tally)
        return self.tally

    @property
    def tally(self) -> Tally:
        """The outcomes so far."""
        return Tally(
            predicted=self._ended["predicted"],
            refused=self._ended["refused"],
            before=self._pipeline.done_before,
            missing=self._ended["missing"],
            unreadable=len(self._given_up()),
        )

    def _turn(self, left: Iterator[str], now: float, *, more: bool) -> bool:
        """Do what can be done now, and return whether there may be more names."""
        if now < self._troubles.retry_at:
            return more
        try:
            self._beat(now)
            self._pool.tend(now)
            self._pipeline.settle(now)
            self._pipeline.record(now)
            more = self._bring(left, now)
            self._pipeline.claim(now)
            self._pipeline.dispatch(now)
            self._troubles.over()
        except OwnTrouble as error:
            if self._troubles.note(error, now):
                self._note(self._troubles.now[error.kind])
        return more

    def _bring(self, left: Iterator[str], now: float) -> bool:
        """Pass names on, and return whether there may be more."""
        names = self._pipeline.again
        ahead = self._ahead
        while self._pipeline.waiting < ahead:
            if not names:
                name = next(left, None)
                if name is None:
                    return False
                names.append(name)
            # The name stays queued until it is noticed, because `left` yields each name once.
            before = self._pipeline.waiting
            self._pipeline.notice(names[0], now, whole=True)
            if self._pipeline.waiting == before:
                self._ended["missing"] += self._is_missing(names[0])
            names.popleft()
        return True

    def _is_missing(self, name: str) -> bool:
        try:
            return self._inbox.look(name) is None
        except FilmStuck:
            return True

    def _is_over(self) -> bool:
        return self._pipeline.idle and self._pipeline.awaited == len(self._given_up())

    @property
    def _ahead(self) -> int:
        """How many films may wait, including those given up, which are looked at again."""
        return _AHEAD + len(self._given_up())

    def _given_up(self) -> list[str]:
        return [name for name, tries in self._pipeline.unreadable.items() if tries >= _TRIES]

    def _wait(self, now: float, *, more: bool) -> float:
        if now < self._troubles.retry_at:
            return min(_LONGEST_WAIT, self._troubles.retry_at - now)
        more = more or bool(self._pipeline.again)
        if self._pipeline.waiting < self._ahead if more else self._is_over():
            return 0.0
        due = self._pipeline.next_due(now)
        until = self._next_beat if due is None else min(due, self._next_beat)
        return min(_LONGEST_WAIT, max(0.0, until - now))

    def _films(self, events: Iterable[PoolEvent]) -> Iterator[PoolEvent]:
        return (one for one in events if not isinstance(one, Serving | NotServing))

    def _beat(self, now: float) -> None:
        if now >= self._next_beat:
            self._sharing.adopt_orphans()
            self._store.beat(self._report(), lease_seconds=self._lease_seconds)
            self._next_beat = now + min(_BEAT_SECONDS, self._lease_seconds / 4)
            # Films of a backfill that died are claimed again when they are listed.
            self._pipeline.withdraw_gone(archive=spell(os.fsencode(self._root)))

    def _report(self) -> BackfillReport:
        return BackfillReport(
            backfill=spell(os.fsencode(self._root)),
            model=self._manifest.version,
            population=self._manifest.tested_on,
            done=self.tally.films,
            in_hand=self._pipeline.in_hand,
            screeners=self._pool.alive,
        )

    def _manifest_of(self, version: str) -> Manifest:
        if version != self._manifest.version:
            raise ModelPackageError(f"screeners serve {version}, not {self._manifest.version}")
        return self._manifest

    def _count(self, outcome: Outcome) -> None:
        self._ended["predicted" if outcome.refusal is None else "refused"] += 1
