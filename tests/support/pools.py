"""Pools of real screeners for tests, and how to wait for what they say."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from worker.imaging.preprocessing import FilmLimits
from worker.inbox.folders import Inbox
from worker.screening.pool import NotServing, Pool, PoolEvent, Screened, Serving
from worker.settings import ScreenerOptions
from worker.system.folders import Folders
from worker.types import Claim

_DEADLINE_SECONDS = 60.0
Kind = TypeVar("Kind")


class Ward:
    """An inbox, a pool of screeners on it, and all that the pool has said."""

    def __init__(self, folder: Path, *, count: int = 1, memory_mb: int = 768) -> None:
        """Make the inbox in a folder, and a pool that has not begun."""
        self.inbox = folder / "inbox"
        self.inbox.mkdir()
        self.said: list[PoolEvent] = []
        self._scans = 0
        options = ScreenerOptions(
            count=count, limits=FilmLimits(), screen_seconds=30, memory_mb=memory_mb
        )
        self.pool = Pool(self.inbox, options)

    def serve(self, package: Path) -> Serving | NotServing:
        """Have the pool serve a package, and return how that went."""
        before = len(self.all_said(Serving)) + len(self.all_said(NotServing))
        self.pool.serve(package, time.monotonic())
        self.wait(lambda: len(self.all_said(Serving)) + len(self.all_said(NotServing)) > before)
        return [one for one in self.said if isinstance(one, Serving | NotServing)][-1]

    def drop(self, name: str, data: bytes) -> None:
        """Put a film into the inbox."""
        (self.inbox / name).write_bytes(data)

    def claim(self, name: str) -> Claim:
        """Return a claim on a file in the inbox as it is now."""
        seen = Inbox(Folders(inbox=self.inbox, archive=self.inbox, refused=self.inbox)).look(name)
        assert seen is not None
        self._scans += 1
        return Claim(scan_id=self._scans, sighting=seen, attempt=1, crashes=0)

    def submit(self, claim: Claim, *, alone: bool = False) -> Claim:
        """Hand a film to a screener, when one has room."""
        self.wait(lambda: self.pool.submit(claim, time.monotonic(), alone=alone))
        return claim

    def screen(self, claim: Claim) -> Screened:
        """Hand a film to a screener, and return what came of it."""
        self.submit(claim)
        return self.wait_for(Screened, lambda one: one.claim == claim)

    def all_said(self, kind: type[Kind]) -> list[Kind]:
        """Return everything of a kind that the pool has said."""
        return [one for one in self.said if isinstance(one, kind)]

    def wait_for(
        self, kind: type[Kind], condition: Callable[[Kind], bool] = lambda _: True
    ) -> Kind:
        """Wait until the pool has said something of a kind, and return it."""

        def found() -> Kind | None:
            return next((one for one in self.all_said(kind) if condition(one)), None)

        self.wait(found)
        one = found()
        assert one is not None
        return one

    def wait(self, condition: Callable[[], Any]) -> None:
        """Listen to the screeners until something is so."""
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while not condition():
            now = time.monotonic()
            assert now < deadline, self.said
            self.said.extend(self.pool.poll(0.1, now))
            self.pool.tend(now)

    @property
    def processes(self) -> list[int]:
        """The process ids of the screeners there are."""
        return [one.process.pid for one in self.pool._screeners]
