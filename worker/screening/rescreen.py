"""Runs screeners on archived films again, with any model package.

Nothing is written or moved. Each film is yielded with its verdict.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from worker.db.predictions import Archived
from worker.errors import FilmRefused, ModelPackageError, ScreenerTrouble
from worker.inbox.folders import sighting_of
from worker.model.decision import Score, Verdict, judge
from worker.model.manifest import Manifest, read_manifest
from worker.screening.ipc import Result
from worker.screening.pool import Died, HandedBack, NotServing, Pool, PoolEvent, Screened, Serving
from worker.settings import ScreenerOptions
from worker.system.filenames import spell
from worker.system.folders import Folders
from worker.types import Claim

_WAIT_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Means:
    """Where archived films are, and how to screen them."""

    folders: Folders
    screeners: ScreenerOptions
    prevalence: float | None = None  # of PNEUMONIA at this site; None for the package's own


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An archived film without a new verdict."""

    scan_id: int
    why: str
    as_none: bool = False  # the model refuses it as not a chest X-ray


def screen_again(
    films: Iterable[Archived], package: Path, means: Means
) -> Iterator[tuple[Archived, Verdict | Skipped]]:
    """Yield each film with a package's verdict, or why there is none.

    Raises:
        ModelPackageError: the package is not fit to serve.
        ScreenerTrouble: screeners cannot be started or kept.
    """
    bench = _Bench(package, means)
    try:
        bench.bring_up()
        waiting = iter(films)
        while True:
            yield from bench.hand_out(waiting)
            if bench.idle:
                return
            yield from bench.collect()
    finally:
        bench.pool.close()


class _Bench:
    """A pool of screeners on one package, and the films they have."""

    def __init__(self, package: Path, means: Means) -> None:
        self._package = package
        self._means = means
        self._manifest: Manifest = read_manifest(package)
        self._with: dict[int, Archived] = {}  # by scan id
        self._again: deque[Claim] = deque()  # handed back, or to be screened alone
        # Films may be in the archive or in the inbox, so their names are absolute paths.
        self.pool = Pool(Path("/"), means.screeners)

    @property
    def idle(self) -> bool:
        return not self._with

    def bring_up(self) -> None:
        self.pool.serve(self._package, time.monotonic())
        while not self.pool.alive:
            for event in self._events():
                if isinstance(event, NotServing):
                    # If a screener was killed while starting, the package may be fine.
                    raise (ModelPackageError if event.proven else ScreenerTrouble)(event.why)
                if isinstance(event, Serving):
                    return

    def hand_out(self, films: Iterator[Archived]) -> Iterator[tuple[Archived, Skipped]]:
        """Give screeners films while they have room; yield films that are missing."""
        while self._again:
            claim = self._again[0]
            if not self.pool.submit(claim, time.monotonic(), alone=claim.crashes > 0):
                return
            self._again.popleft()
        while self.pool.room:
            film = next(films, None)
            if film is None:
                return
            claim_or_why = self._look(film)
            if isinstance(claim_or_why, Skipped):
                yield film, claim_or_why
                continue
            self._with[film.scan_id] = film
            self.pool.submit(claim_or_why, time.monotonic())

    def collect(self) -> Iterator[tuple[Archived, Verdict | Skipped]]:
        """Wait for screeners, and yield the films they have finished."""
        for event in self._events():
            match event:
                case Screened(claim=claim, result=result):
                    film = self._with.pop(claim.scan_id)
                    yield film, self._found(film, result)
                case Died(claim=claim, how=how) if claim.crashes:
                    film = self._with.pop(claim.scan_id)
                    why = f"reading it ended the screener twice ({how})"
                    yield film, Skipped(scan_id=film.scan_id, why=why)
                case Died(claim=claim):
                    self._again.append(_once_more(claim))
                case HandedBack(claim=claim):
                    self._again.append(claim)
                case _:
                    pass  # about the model, which serves

    def _events(self) -> Iterator[PoolEvent]:
        now = time.monotonic()
        yield from self.pool.poll(_WAIT_SECONDS, now)
        self.pool.tend(now)

    def _look(self, film: Archived) -> Claim | Skipped:
        """Return a claim on the film as it is now."""
        path = self._means.folders.path_of(film.place, in_inbox=film.in_inbox)
        try:
            facts = os.lstat(path)
        except OSError as error:
            return Skipped(scan_id=film.scan_id, why=f"moved: {error.strerror}")
        sighting = sighting_of(spell(path.lstrip(b"/")), facts)
        if sighting is None:
            return Skipped(scan_id=film.scan_id, why="moved: no regular file is in its place")
        return Claim(scan_id=film.scan_id, sighting=sighting, attempt=1, crashes=0)

    def _found(self, film: Archived, result: Result) -> Verdict | Skipped:
        if result.sha256 is not None and result.sha256 != film.sha256:
            why = "changed: its bytes are not those that were screened"
        elif result.kind == "refused":
            why = f"refused now: {result.sentence}"
        elif result.kind != "predicted" or result.logit is None:
            why = {"lost": "changed while it was read"}.get(result.kind, result.kind)
        else:
            score = Score(logit=result.logit, strangeness=result.strangeness)
            try:
                return judge(score, self._manifest, prevalence=self._means.prevalence)
            except FilmRefused as refusal:
                why = f"refused now: {refusal.sentence}"
                return Skipped(scan_id=film.scan_id, why=why, as_none=True)
        return Skipped(scan_id=film.scan_id, why=why)


def _once_more(claim: Claim) -> Claim:
    return Claim(
        scan_id=claim.scan_id,
        sighting=claim.sighting,
        attempt=claim.attempt + 1,
        crashes=claim.crashes + 1,
    )
