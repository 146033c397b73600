"""The way of a scan: noticed, settled, claimed, screened, recorded, filed.

Each step takes the time as an argument, does what can be done now, and leaves the rest for the next
call. A step with own trouble raises it and loses nothing: what was to be claimed is still ready,
what was to be recorded still pending, and what was to be filed still recorded.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from worker.db.scans import Store
from worker.db.sharing import Crew, Sharing
from worker.errors import FilmRefused, FilmStuck, ModelPackageError, RefusalCode, StorageTrouble
from worker.inbox.folders import Inbox
from worker.inbox.stability import Settled, Tracker
from worker.model.decision import Score, judge
from worker.model.manifest import Manifest
from worker.screening.ipc import Result, facts_of, refusal_from
from worker.screening.pool import Died, HandedBack, Pool, PoolEvent, Screened
from worker.service.dedupe import Repeats
from worker.service.filing import Filing
from worker.types import Changes, Claim, Facts, Outcome, Sighting

# Refusals that an incomplete copy can cause. They wait until the file has not changed for long.
_MAY_BE_INCOMPLETE = frozenset(
    {RefusalCode.EMPTY, RefusalCode.NOT_A_JPEG, RefusalCode.TRUNCATED, RefusalCode.DAMAGED}
)
_BATCH = 64  # outcomes per commit
_BATCH_SECONDS = 0.05  # longest wait of an outcome for others to commit with
_BACKLOG_SECONDS = 0.25  # the same while more films wait than screeners can take
_TAKEN_SECONDS = 5.0  # until a film that another worker holds is looked at again
_OFFER_SECONDS = 0.25  # between offers, and between looks for offers
_ASTRAY_SECONDS = 60.0  # without taking offers, after an offered film was not found
_LEFT_OVER = 400  # unfinished rows handled at a time


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the pipeline works, from the settings."""

    settle_seconds: float  # without a change, until a film is ready
    lease_seconds: float
    incomplete_seconds: float
    keep_in_inbox: bool
    # Each name is listed once only: finished films are not remembered, and names whose claim failed
    # go to `again`.
    one_pass: bool = False
    prevalence: float | None = None  # of PNEUMONIA at this site; None for the package's own


class Pipeline:
    """Everything from a name in the inbox to a file in its folder."""

    def __init__(
        self,
        *,
        store: Store,
        inbox: Inbox,
        pool: Pool,
        policy: Policy,
        manifest_of: Callable[[str], Manifest],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        """Connect the parts. `on_outcome` is called once for each durable outcome."""
        self._store = store
        self._inbox = inbox
        self._pool = pool
        self._policy = policy
        self._manifest_of = manifest_of
        self._on_outcome = on_outcome
        self._tracker = Tracker(settle_seconds=policy.settle_seconds)
        self._ready: deque[Settled] = deque()
        self._busy: set[str] = set()  # names that are ready or claimed
        self._kept = _Kept()
        self._claimed: deque[Claim] = deque()  # waiting for a screener
        self._settled: dict[int, Settled] = {}  # by scan id, while claimed
        self._pending = Changes()
        self._pending_since = 0.0
        self._filing = Filing(inbox)
        self._sharing = Sharing(store)
        self._repeats = Repeats(store, prevalence=policy.prevalence)
        self._next_offer = self._next_take = 0.0
        # The last scan ids of unfinished rows handled, so that stuck rows do not block later ones.
        self._unfiled_after = self._lapsed_after = 0
        self.done_before = 0  # films that had a verdict before, and stay in place
        self.again: deque[str] = deque()  # with `one_pass`: names to be noticed again

    # From a name to a settled file

    def begin_listing(self) -> None:
        """Forget finished films that the previous listing did not see."""
        self._kept.begin_listing()

    def notice(self, name: str, now: float, *, whole: bool = False) -> None:
        """Note a name from an event or the listing.

        A film known to be `whole` does not wait. If it is incomplete after all, it is still refused
        no sooner than others.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        if name in self._busy or name in self._filing:
            return
        try:
            sighting = self._inbox.look(name)
        except FilmStuck:
            # With one pass, the caller sees that the name is not known.
            if name not in self._tracker and not self._policy.one_pass:
                self._tracker.postpone(name, now)
            return
        if sighting is None or sighting in self._kept:
            return
        if whole:
            self._tracker.forget(name)
            self._make_ready(Settled(sighting=sighting, still_since=now))
        else:
            self._tracker.observe(sighting, now)

    def settle(self, now: float) -> None:
        """Move settled files to those ready to be claimed.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        for name in self._tracker.due(now):
            try:
                sighting = self._inbox.look(name)
            except FilmStuck:
                self._tracker.postpone(name, now)
                continue
            settled = self._tracker.look_again(name, sighting, now)
            if sighting is None:
                self._let_go(name, now)
            if settled is not None:
                self._make_ready(settled)

    def _make_ready(self, settled: Settled) -> None:
        self._busy.add(settled.sighting.name)
        self._ready.append(settled)

    # Claims

    def claim(self, now: float) -> None:
        """Claim as many films as the screeners can take soon, in one transaction."""
        if not self._may_claim:
            return
        batch = list(islice(self._ready, _BATCH))
        # If several workers share a backlog, another has done most of what was ready here.
        there = [one.sighting for one in batch if self._is_there(one.sighting)]
        answer = self._store.claim(there, lease_seconds=self._policy.lease_seconds)
        for _ in batch:
            self._ready.popleft()
        by_sighting = {one.sighting: one for one in batch}
        for gone in by_sighting.keys() - set(there):
            by_sighting.pop(gone)
            self._let_go(gone.name, now)
        for claim in answer.claims:
            self._take_up(claim, by_sighting.pop(claim.sighting))
        for sighting in answer.kept:
            by_sighting.pop(sighting)
            self._finish(sighting, stays=True)
        self.done_before += len(answer.kept)
        # Another worker holds the rest: look again later, in case it does not finish.
        for settled in by_sighting.values():
            self._put_back(settled, until=now + min(_TAKEN_SECONDS, self._policy.lease_seconds))

    def share(self, crew: Crew, now: float) -> None:
        """Offer films beyond this worker's next claim, or take films that another offers.

        Films that stay in the inbox are not offered, because most of those listed are done.
        """
        if not crew.others or self._policy.keep_in_inbox:
            return
        surplus = len(self._ready) - _BATCH
        if crew.lists and surplus > 0 and now >= self._next_offer:
            self._next_offer = now + _OFFER_SECONDS
            most = crew.others * _BATCH
            last = [one.sighting for one in islice(reversed(self._ready), min(surplus, most))]
            for _ in range(self._sharing.offer(last, most=most)):
                self._busy.discard(self._ready.pop().sighting.name)
        elif not self._ready and self._may_take and now >= self._next_take:
            self._take(now)

    def _take(self, now: float) -> None:
        claims = self._sharing.take(
            _BATCH, but=self._busy, lease_seconds=self._policy.lease_seconds
        )
        astray = [one for one in claims if not self._is_there(one.sighting)]
        if astray:
            self._change(now).released.extend(astray)
        for claim in claims:
            if claim not in astray:
                self._tracker.forget(claim.sighting.name)
                self._busy.add(claim.sighting.name)
                self._take_up(claim, Settled(sighting=claim.sighting, still_since=now))
        # The film is gone, or this worker sees another inbox. The worker that lists will find out.
        if astray:
            self._next_take = now + _ASTRAY_SECONDS
        elif len(claims) < _BATCH:
            self._next_take = now + _OFFER_SECONDS

    def _take_up(self, claim: Claim, settled: Settled) -> None:
        self._settled[claim.scan_id] = settled
        self._claimed.append(claim)

    # Screening and its results

    def dispatch(self, now: float) -> None:
        """Submit claimed films to screeners that have room."""
        # A film that ended a screener is retried first and alone, so that it harms no other film.
        suspects = [claim for claim in self._claimed if claim.crashes]
        for claim in suspects:
            if not self._pool.submit(claim, now, alone=True):
                return
            self._claimed.remove(claim)
        while self._claimed and self._pool.submit(self._claimed[0], now):
            self._claimed.popleft()

    def collect(self, events: Iterable[PoolEvent], now: float) -> None:
        """Handle events from the screeners."""
        for event in events:
            match event:
                case Screened():
                    self._screened(event, now)
                case Died(claim=claim, overran=True, how=how):
                    self._ended_screener(claim, RefusalCode.SCREENER_OVERRAN, how, now)
                case Died(claim=claim, how=how):
                    self._ended_screener(claim, RefusalCode.SCREENER_CRASHED, how, now)
                case HandedBack(claim=claim):
                    self._claimed.appendleft(claim)
                case _:
                    pass  # about models: handled by the service

    def _screened(self, event: Screened, now: float) -> None:
        claim, result = event.claim, event.result
        match result.kind:
            case "predicted":
                self._predicted(claim, result, event.model_version, now)
            case "refused":
                self._refused(claim, facts_of(result), refusal_from(result), now)
            case "out_of_memory":
                self._ended_screener(claim, RefusalCode.SCREENER_OUT_OF_MEMORY, "memory", now)
            case "unreadable":
                self._unreadable(claim, now)
            case "lost":
                self._lost(claim, now)

    def _predicted(self, claim: Claim, result: Result, version: str, now: float) -> None:
        if result.logit is None or result.sha256 is None:
            self._ended_screener(claim, RefusalCode.SCREENER_CRASHED, "no answer", now)
            return
        score = Score(logit=result.logit, strangeness=result.strangeness)
        facts, manifest = facts_of(result), self._manifest_of(version)
        try:
            verdict = judge(score, manifest, prevalence=self._policy.prevalence)
        except FilmRefused as refusal:  # not a chest X-ray
            self._outcome(Outcome(claim=claim, facts=facts, refusal=refusal), now)
        except ModelPackageError as error:  # a number that is not finite
            self._ended_screener(claim, RefusalCode.SCREENER_CRASHED, str(error), now)
        else:
            self._outcome(Outcome(claim=claim, facts=facts, verdict=verdict, model=manifest), now)

    def _refused(self, claim: Claim, facts: Facts, refusal: FilmRefused, now: float) -> None:
        patience = self._settled[claim.scan_id].still_since + self._policy.incomplete_seconds
        if refusal.code in _MAY_BE_INCOMPLETE and now < patience:
            self._change(now).released.append(claim)
            self._put_back(self._settled.pop(claim.scan_id), until=patience)
        else:
            self._outcome(Outcome(claim=claim, facts=facts, refusal=refusal), now)

    def _ended_screener(self, claim: Claim, code: RefusalCode, how: str, now: float) -> None:
        """Retry the film alone; the second time it is refused."""
        if claim.crashes:
            sentence = f"Screening this file failed twice, the second time alone ({how})."
            refusal = FilmRefused(code, sentence, measured=how)
            self._outcome(Outcome(claim=claim, facts=Facts(), refusal=refusal), now)
        else:
            self._change(now).crashed.append(claim)
            self._ready.appendleft(self._settled.pop(claim.scan_id))  # first in line

    def _unreadable(self, claim: Claim, now: float) -> None:
        self._change(now).released.append(claim)
        settled = self._settled.pop(claim.scan_id)
        self._busy.discard(settled.sighting.name)
        self._tracker.put_off(settled, now)

    def _lost(self, claim: Claim, now: float) -> None:
        """Drop a film that has changed; if it is unchanged after all, try again later."""
        with suppress(StorageTrouble):
            if self._is_there(claim.sighting):
                self._unreadable(claim, now)
                return
        self._change(now).withdrawn.append(claim)
        self._let_go(self._settled.pop(claim.scan_id).sighting.name, now)

    def _outcome(self, outcome: Outcome, now: float) -> None:
        self._change(now).outcomes.append(outcome)

    # Recording and filing

    def record(self, now: float) -> None:
        """Commit pending changes, several in one transaction."""
        pending = self._pending
        few = len(pending.outcomes) < _BATCH and now - self._pending_since < self._company_seconds
        # A claim without a verdict may be claimed again next, and must be ended by then.
        ended = pending.released or pending.crashed or pending.withdrawn
        if not pending or (few and self._pool.in_hand and not ended):
            return
        keep = self._policy.keep_in_inbox
        pending.outcomes = self._repeats.answered_alike(pending.outcomes)
        recorded = self._store.apply(pending, keep=keep)
        outcomes, self._pending = pending.outcomes, Changes()
        accepted = {one.scan_id for one in recorded}
        for outcome in outcomes:
            sighting = self._settled.pop(outcome.claim.scan_id).sighting
            if outcome.claim.scan_id in accepted:
                self._finish(sighting, stays=keep)
                self._on_outcome(outcome)
            else:  # another worker holds it, or ended the claim
                self._lose(sighting.name)
        if not keep:
            self._filing.add(recorded)

    def file_away(self, now: float) -> None:
        """Move the files of recorded scans to their folders, durably."""
        if filed := self._filing.work(now):
            self._change(now).filed.extend(filed)

    def recover(self, *, older_than_seconds: float = 0.0, lists: bool = True) -> None:
        """Finish earlier work: recorded scans that are not filed, and claims on missing files.

        Only a worker that lists the inbox may say that a file is missing: the inbox of another may
        be an empty mount point.
        """
        filed = {scan_id for scan_id, _ in self._pending.filed}
        unfiled = self._store.unfiled(
            older_than_seconds=older_than_seconds, limit=_LEFT_OVER, after=self._unfiled_after
        )
        self._unfiled_after = unfiled[-1].scan_id if len(unfiled) >= _LEFT_OVER else 0
        self._filing.add(scan for scan in unfiled if scan.scan_id not in filed)
        if lists:
            self.withdraw_gone()

    def withdraw_gone(self, *, archive: str | None = None) -> None:
        """End lapsed claims on files that are gone from the inbox, or from an archive.

        Films of an archive have absolute paths. A worker on an inbox does not judge these, because
        it may not see them; nor does a backfill judge films of an inbox.
        """
        lapsed = self._store.lapsed(archive=archive, limit=_LEFT_OVER, after=self._lapsed_after)
        self._lapsed_after = lapsed[-1][0] if len(lapsed) >= _LEFT_OVER else 0
        self._store.withdraw_lapsed(
            [scan_id for scan_id, sighting in lapsed if not self._is_there(sighting)]
        )

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Release films that were not screened, so that the next worker gets them at once."""
        self._pending.released.extend([*claims, *self._claimed])
        self._claimed.clear()

    # Names whose claim has ended or failed

    def _finish(self, sighting: Sighting, *, stays: bool) -> None:
        """Mark a film as done; if it stays in the inbox, remember it."""
        self._busy.discard(sighting.name)
        self._tracker.clear_failures(sighting.name)
        if stays and not self._policy.one_pass:
            self._kept.add(sighting)

    def _put_back(self, settled: Settled, *, until: float) -> None:
        """Look at a settled film again at a time in monotonic seconds."""
        self._busy.discard(settled.sighting.name)
        self._tracker.hold(settled, until=until)

    def _lose(self, name: str) -> None:
        """Leave a film to the worker that holds it or ended its claim."""
        self._busy.discard(name)
        if self._policy.one_pass:
            self.again.append(name)

    def _let_go(self, name: str, now: float) -> None:
        """Forget a file that changed; a file that replaced it starts from the beginning."""
        self._lose(name)
        self._tracker.clear_failures(name)
        if not self._policy.one_pass:
            with suppress(StorageTrouble):  # the listing will find it
                self.notice(name, now)

    def _is_there(self, sighting: Sighting) -> bool:
        """Whether a file is still as it was seen; True if that cannot be checked."""
        try:
            return self._inbox.look(sighting.name) == sighting
        except FilmStuck:
            return True

    def _change(self, now: float) -> Changes:
        if not self._pending:
            self._pending_since = now
        return self._pending

    # Status

    @property
    def waiting(self) -> int:
        """The number of files known and not claimed."""
        return len(self._ready) + len(self._tracker)

    @property
    def awaited(self) -> int:
        """The number of those that cannot be claimed yet."""
        return len(self._tracker)

    @property
    def unreadable(self) -> Counter[str]:
        """Failed tries, by name of a file that cannot be read."""
        return self._tracker.unreadable

    @property
    def wants_names(self) -> bool:
        """Whether more of the inbox should be listed."""
        return self._tracker.has_room and len(self._ready) < self._tracker.capacity

    @property
    def in_hand(self) -> int:
        """The number of scans claimed and not recorded."""
        return len(self._settled)

    @property
    def oldest_since(self) -> float | None:
        """Since when the longest waiting film has been settled, in monotonic seconds."""
        heads = [*islice(self._settled.values(), 1), *islice(self._ready, 1)]
        return min((one.still_since for one in heads), default=None)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until a film arrives."""
        return not (self._busy or self.again or self._pending or self._filing.busy)

    @property
    def stuck(self) -> int:
        """The number of films with a verdict that cannot be moved out of the inbox."""
        return self._filing.stuck

    def next_due(self, now: float) -> float | None:
        """Return when there is something to do without an event, in monotonic seconds."""
        if self._may_claim or self._filing.busy:
            return now
        times = [self._tracker.next_due(), self._filing.next_due]
        if self._pending:
            times.append(self._pending_since + self._company_seconds)
        return min((time for time in times if time is not None), default=None)

    @property
    def _company_seconds(self) -> float:
        return _BACKLOG_SECONDS if self._claimed else _BATCH_SECONDS

    @property
    def _may_claim(self) -> bool:
        return bool(self._ready) and self._may_take

    @property
    def _may_take(self) -> bool:
        return bool(self._pool.alive and len(self._claimed) <= self._pool.capacity)


class _Kept:
    """Films with a verdict that stay in the inbox, as hashes, because there can be many.

    It holds films of this listing and of the one before. Others are gone and forgotten.
    """

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()

    def __len__(self) -> int:
        return len(self._now | self._before)

    def __contains__(self, sighting: Sighting) -> bool:
        """Whether a film is in it. It then counts as seen by this listing."""
        film = hash(sighting)
        if film in self._before:
            self._before.remove(film)
            self._now.add(film)
        return film in self._now

    def add(self, sighting: Sighting) -> None:
        self._now.add(hash(sighting))

    def begin_listing(self) -> None:
        self._now, self._before = set(), self._now
