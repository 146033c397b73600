"""Own trouble (database, storage, screeners): noted once, retried with back-off, then over."""

from __future__ import annotations

import random
from dataclasses import dataclass

from worker.errors import OwnTrouble

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 15.0


@dataclass(kw_only=True)
class Trouble:
    """One kind of trouble, from its first sign until it is over."""

    kind: str
    message: str  # of the latest
    since: float  # monotonic seconds
    count: int = 1

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.kind}: {self.message}"


def doubling(tries: int, *, first: float = 2.0, longest: float = 60.0) -> float:
    """Return the seconds to wait after this many failed tries; the wait doubles each time."""
    return min(longest, first * 2.0 ** min(tries - 1, 30))


class Troubles:
    """The worker's present trouble, and when to try again."""

    def __init__(self, jitter: random.Random | None = None) -> None:
        """Spread retries by `jitter`, so that many workers do not retry at once."""
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.now: dict[str, Trouble] = {}
        self.last: Trouble | None = None
        self.retry_at = 0.0

    def note(self, error: OwnTrouble, now: float) -> bool:
        """Note trouble and postpone the next try.

        Returns:
            Whether it is new, and so to be logged.
        """
        known = self.now.get(error.kind)
        news = known is None
        if known is None:
            known = Trouble(kind=error.kind, message=str(error), since=now)
            self.now[error.kind] = known
        else:
            known.count += 1
            known.message = str(error)
        self.last = known
        wait = doubling(known.count, first=_FIRST_SECONDS, longest=_LONGEST_SECONDS)
        self.retry_at = now + wait * self._jitter.uniform(0.5, 1.0)
        return news

    def over(self) -> list[Trouble]:
        """Return past trouble and forget it: everything works again."""
        past = list(self.now.values())
        self.now.clear()
        self.retry_at = 0.0
        return past
