"""Sees to it that one model predicts the same bytes once, also when they come together."""

from __future__ import annotations

from collections import Counter, OrderedDict

from worker.errors import DatabaseTrouble
from worker.model import Score
from worker.records import Claim, Facts
from worker.store import Store

_ANSWERS_KEPT = 4096  # scores of bytes seen lately, before the database knows them


class SeenBytes:
    """What was predicted lately, what is being predicted, and who waits for it."""

    def __init__(self, store: Store) -> None:
        """Ask `store` for what was said before."""
        self._store = store
        self._scores: OrderedDict[tuple[str, str], Score] = OrderedDict()
        self._predicting: dict[tuple[str, str], Claim] = {}  # who is being predicted
        self._twins: dict[tuple[str, str], list[tuple[Claim, Facts]]] = {}
        self._sizes_out: Counter[int] = Counter()  # of films that will not ask

    def may_go(self, claim: Claim) -> bool:
        """Whether a film can be handed out: not while one of its size is out that will not ask."""
        return not (claim.size_seen and self._sizes_out[claim.sighting.size_bytes])

    def gone(self, claim: Claim) -> None:
        """Take note that a film is with a screener."""
        if not claim.size_seen:
            self._sizes_out[claim.sighting.size_bytes] += 1

    def done(self, claim: Claim) -> None:
        """Take note that it no longer is."""
        size = claim.sighting.size_bytes
        if not claim.size_seen:
            self._sizes_out[size] -= 1
            if self._sizes_out[size] <= 0:
                del self._sizes_out[size]

    def ask(self, claim: Claim, sha256: str, version: str) -> bool:
        """Whether these bytes must be predicted: nobody has, and nobody is at it."""
        key = (version, sha256)
        if key in self._predicting or self.score(sha256, version) is not None:
            return False
        try:
            earlier = self._store.earlier_score(sha256, version)
        except DatabaseTrouble:
            earlier = None  # predicting again gives the same answer, and recording it will wait
        if earlier is not None:
            self._remember(key, earlier)
            return False
        self._predicting[key] = claim
        return True

    def score(self, sha256: str, version: str) -> Score | None:
        """Return what this model said of these bytes lately."""
        return self._scores.get((version, sha256))

    def wait_for_twin(self, claim: Claim, facts: Facts, version: str) -> bool:
        """Keep a film until the one of the same bytes is predicted, if one is."""
        key = (version, facts.sha256 or "")
        if key not in self._predicting:
            return False
        self._twins.setdefault(key, []).append((claim, facts))
        return True

    def answered(self, sha256: str, version: str, score: Score) -> list[tuple[Claim, Facts]]:
        """Remember an answer, and return the films that waited for it."""
        key = (version, sha256)
        self._remember(key, score)
        self._predicting.pop(key, None)
        return self._twins.pop(key, [])

    def orphans(self, claim: Claim) -> list[Claim]:
        """Return the films that waited for one that ended without an answer."""
        for key, predicting in list(self._predicting.items()):
            if predicting == claim:
                del self._predicting[key]
                return [twin for twin, _ in self._twins.pop(key, [])]
        return []

    def waiting(self) -> list[Claim]:
        """Return every film that waits for another of the same bytes."""
        return [twin for twins in self._twins.values() for twin, _ in twins]

    def _remember(self, key: tuple[str, str], score: Score) -> None:
        self._scores[key] = score
        while len(self._scores) > _ANSWERS_KEPT:
            self._scores.popitem(last=False)
