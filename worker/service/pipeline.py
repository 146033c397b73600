"""The story of a scan: noticed, still, claimed, screened, recorded, filed.

Each step takes the time as an argument, does what can be done now, and leaves the rest where the
next call finds it. A step that meets trouble of our own raises it with nothing lost: what was to
be claimed is still ready, what was to be recorded still pending, what was to be filed still
recorded.
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

# What a copy that has not ended yet looks like: waited for before it is refused.
_MAY_BE_INCOMPLETE = frozenset(
    {RefusalCode.EMPTY, RefusalCode.NOT_A_JPEG, RefusalCode.TRUNCATED, RefusalCode.DAMAGED}
)
_BATCH = 64  # outcomes in one commit
_BATCH_SECONDS = 0.05  # an outcome waits no longer than this for company
_BACKLOG_SECONDS = 0.25  # or than this, while more films wait than the screeners can have
_TAKEN_SECONDS = 5.0  # between looks at a film that another worker has in hand
_OFFER_SECONDS = 0.25  # between two offers, and between looks at offers of which there were none
_ASTRAY_SECONDS = 60.0  # that a worker takes no offers if it does not find what was offered
_LEFT_OVER = 400  # rows taken up in one go, of what was left unfinished; the next go takes the next


@dataclass(frozen=True, kw_only=True)
class Policy:
    """How the pipeline does its work, from the settings."""

    settle_seconds: float  # that a film must have stood still
    lease_seconds: float
    incomplete_seconds: float
    keep_in_inbox: bool
    # No name is listed a second time: finished films are not remembered, and names whose claim
    # came to nothing go to `again`.
    one_pass: bool = False
    prevalence: float | None = None  # of PNEUMONIA at this site; None for the package's own


class Pipeline:
    """Everything between a name in the inbox and a file in its place."""

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
        """Join the parts. `on_outcome` is called once for each outcome, when it is durable."""
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
        # The scan id that the last go of what was left ended at, which may all be stuck.
        self._unfiled_after = self._lapsed_after = 0
        self.done_before = 0  # films that had their verdict already, and stay where they are
        self.again: deque[str] = deque()  # names to be noticed once more, with `one_pass`

    # Names that are noticed, until their files stand still

    def begin_listing(self) -> None:
        """Forget finished films that the listing before this one did not see."""
        self._kept.begin_listing()

    def notice(self, name: str, now: float, *, whole: bool = False) -> None:
        """Take note of a name that an event or the listing brought.

        A film that is known to be `whole` waits for nothing. If it is not so after all, it is
        refused no sooner than any other that may be incomplete.

        Raises:
            StorageTrouble: the inbox cannot be reached.
        """
        if name in self._busy or name in self._filing:
            return
        try:
            sighting = self._inbox.look(name)
        except FilmStuck:
            # With one pass, whoever brought the name sees that nothing is known of it.
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
        """Move what has stood still to what can be claimed.

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
        """Claim as many as the screeners can take soon, in one transaction."""
        if not self._may_claim:
            return
        batch = list(islice(self._ready, _BATCH))
        # Where several workers share a backlog, another has done most of what was ready here.
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
        # Another worker has the rest in hand: look again later, in case it comes to nothing.
        for settled in by_sighting.values():
            self._put_back(settled, until=now + min(_TAKEN_SECONDS, self._policy.lease_seconds))

    def share(self, crew: Crew, now: float) -> None:
        """Offer what is ready beyond this worker's next claim, or take what another offers.

        Films that stay in the inbox are not offered: most of what is listed then is done.
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
        # Gone since, or this worker's inbox is not what it should be: the one that lists knows.
        if astray:
            self._next_take = now + _ASTRAY_SECONDS
        elif len(claims) < _BATCH:
            self._next_take = now + _OFFER_SECONDS

    def _take_up(self, claim: Claim, settled: Settled) -> None:
        self._settled[claim.scan_id] = settled
        self._claimed.append(claim)

    # Screening, and how it can end

    def dispatch(self, now: float) -> None:
        """Hand claimed films to screeners that have room."""
        # A film that ended a screener is tried once more, first, with nobody beside it to harm.
        suspects = [claim for claim in self._claimed if claim.crashes]
        for claim in suspects:
            if not self._pool.submit(claim, now, alone=True):
                return
            self._claimed.remove(claim)
        while self._claimed and self._pool.submit(self._claimed[0], now):
            self._claimed.popleft()

    def collect(self, events: Iterable[PoolEvent], now: float) -> None:
        """Take in what screeners say."""
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
                    pass  # about models: the service's business

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
        except FilmRefused as refusal:  # it is no chest film
            self._outcome(Outcome(claim=claim, facts=facts, refusal=refusal), now)
        except ModelPackageError as error:  # what is not finite is never a verdict
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
        """Try it once more alone; the second time it is the film's own doing."""
        if claim.crashes:
            sentence = f"Screening this file failed twice, the second time alone ({how})."
            refusal = FilmRefused(code, sentence, measured=how)
            self._outcome(Outcome(claim=claim, facts=Facts(), refusal=refusal), now)
        else:
            self._change(now).crashed.append(claim)
            self._ready.appendleft(self._settled.pop(claim.scan_id))  # while it is known

    def _unreadable(self, claim: Claim, now: float) -> None:
        self._change(now).released.append(claim)
        settled = self._settled.pop(claim.scan_id)
        self._busy.discard(settled.sighting.name)
        self._tracker.put_off(settled, now)

    def _lost(self, claim: Claim, now: float) -> None:
        """Let go of a film that is not what it was, unless only its file system says so."""
        with suppress(StorageTrouble):
            if self._is_there(claim.sighting):
                self._unreadable(claim, now)
                return
        self._change(now).withdrawn.append(claim)
        self._let_go(self._settled.pop(claim.scan_id).sighting.name, now)

    def _outcome(self, outcome: Outcome, now: float) -> None:
        self._change(now).outcomes.append(outcome)

    # Records, and files in their places

    def record(self, now: float) -> None:
        """Make durable what has come about, in groups: one transaction for all of it."""
        pending = self._pending
        few = len(pending.outcomes) < _BATCH and now - self._pending_since < self._company_seconds
        # A claim that ended without a verdict may be claimed again next: that must find it ended.
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
            else:  # another worker has it, or has ended the claim
                self._lose(sighting.name)
        if not keep:
            self._filing.add(recorded)

    def file_away(self, now: float) -> None:
        """Move the files of recorded scans to their places, for good."""
        if filed := self._filing.work(now):
            self._change(now).filed.extend(filed)

    def recover(self, *, older_than_seconds: float = 0.0, lists: bool = True) -> None:
        """Finish what was left: recorded scans not filed, and claims on files that are gone.

        Only a worker that lists the inbox says what is gone: another's may be an empty mount point.
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
        """End claims that nobody holds any more on files that are gone from the inbox.

        Or from an archive, whose films are known by their whole paths: those of one say nothing to
        a worker that watches an inbox, for it may not see them, and the other way about.
        """
        lapsed = self._store.lapsed(archive=archive, limit=_LEFT_OVER, after=self._lapsed_after)
        self._lapsed_after = lapsed[-1][0] if len(lapsed) >= _LEFT_OVER else 0
        self._store.withdraw_lapsed(
            [scan_id for scan_id, sighting in lapsed if not self._is_there(sighting)]
        )

    def abandon(self, claims: Iterable[Claim]) -> None:
        """Let go of films that were not screened, so that the next worker has them at once."""
        self._pending.released.extend([*claims, *self._claimed])
        self._claimed.clear()

    # What becomes of a name whose claim has ended, or was not to be had

    def _finish(self, sighting: Sighting, *, stays: bool) -> None:
        """Know that a film has its verdict; if it stays in the inbox, notice it no more."""
        self._busy.discard(sighting.name)
        self._tracker.clear_failures(sighting.name)
        if stays and not self._policy.one_pass:
            self._kept.add(sighting)

    def _put_back(self, settled: Settled, *, until: float) -> None:
        """Look at a still film again at a time in monotonic seconds."""
        self._busy.discard(settled.sighting.name)
        self._tracker.hold(settled, until=until)

    def _lose(self, name: str) -> None:
        """Leave a film to the worker that has it, or has ended its claim."""
        self._busy.discard(name)
        if self._policy.one_pass:
            self.again.append(name)

    def _let_go(self, name: str, now: float) -> None:
        """Forget a file that is not what it was; what stands there now starts afresh."""
        self._lose(name)
        self._tracker.clear_failures(name)
        if not self._policy.one_pass:
            with suppress(StorageTrouble):  # the listing will find it
                self.notice(name, now)

    def _is_there(self, sighting: Sighting) -> bool:
        """Whether a file stands as it was sighted, as far as can be told."""
        try:
            return self._inbox.look(sighting.name) == sighting
        except FilmStuck:
            return True

    def _change(self, now: float) -> Changes:
        if not self._pending:
            self._pending_since = now
        return self._pending

    # Where things stand

    @property
    def waiting(self) -> int:
        """How many files are known and not yet claimed."""
        return len(self._ready) + len(self._tracker)

    @property
    def awaited(self) -> int:
        """How many of them cannot be claimed yet."""
        return len(self._tracker)

    @property
    def unreadable(self) -> Counter[str]:
        """Names that could not be read, by how often they were tried."""
        return self._tracker.unreadable

    @property
    def wants_names(self) -> bool:
        """Whether more of the inbox should be listed."""
        return self._tracker.has_room and len(self._ready) < self._tracker.capacity

    @property
    def in_hand(self) -> int:
        """How many scans are claimed and not yet recorded."""
        return len(self._settled)

    @property
    def oldest_since(self) -> float | None:
        """Since when the film has stood still that has waited longest, in monotonic seconds."""
        heads = [*islice(self._settled.values(), 1), *islice(self._ready, 1)]
        return min((one.still_since for one in heads), default=None)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until something arrives."""
        return not (self._busy or self.again or self._pending or self._filing.busy)

    @property
    def stuck(self) -> int:
        """How many films have their verdict and cannot be moved out of the inbox."""
        return self._filing.stuck

    def next_due(self, now: float) -> float | None:
        """Return when something must be done though nothing happens, in monotonic seconds."""
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
    """Films that have their verdict and stay in the inbox, as hashes: there can be many.

    Those of this listing and of the one before. What neither saw has gone, and is forgotten.
    """

    def __init__(self) -> None:
        self._now: set[int] = set()
        self._before: set[int] = set()

    def __len__(self) -> int:
        return len(self._now | self._before)

    def __contains__(self, sighting: Sighting) -> bool:
        """Whether a film is one of them. It counts as seen by this listing."""
        film = hash(sighting)
        if film in self._before:
            self._before.remove(film)
            self._now.add(film)
        return film in self._now

    def add(self, sighting: Sighting) -> None:
        self._now.add(hash(sighting))

    def begin_listing(self) -> None:
        self._now, self._before = set(), self._now
