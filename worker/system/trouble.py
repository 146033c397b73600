"""Trouble of our own, as one mechanism: noted, backed off from, said once, and over when it is."""

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
        """Say it in a line."""
        return f"{self.kind}: {self.message}"


def doubling(tries: int, *, first: float = 2.0, longest: float = 60.0) -> float:
    """Return how long to wait after so many vain tries, in seconds: longer each time."""
    return min(longest, first * 2.0 ** min(tries - 1, 30))


class Troubles:
    """What troubles the worker now, and when to try again."""

    def __init__(self, jitter: random.Random | None = None) -> None:
        """Back off with `jitter`, so that many workers do not all come back at once."""
        self._jitter = jitter or random.Random()  # noqa: S311 - spreads retries, guards nothing
        self.now: dict[str, Trouble] = {}
        self.last: Trouble | None = None
        self.retry_at = 0.0

    def note(self, error: OwnTrouble, now: float) -> bool:
        """Take note of trouble, and put off the next try.

        Returns:
            Whether it is news: said in the log then, and not each time.
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
        """Everything went well once more: forget what was, and return it."""
        past = list(self.now.values())
        self.now.clear()
        self.retry_at = 0.0
        return past
