"""Gives the same bytes the same answer from a model, however often they come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from worker.db.scans import Store
from worker.model.decision import SAME_LOGIT, Score, judge
from worker.types import Outcome

_REMEMBERED = 1000  # scores of bytes that came again

_Key = tuple[str, str]  # SHA-256, model version


class Repeats:
    """Earlier scores from the store, and a cache of those that are needed again."""

    def __init__(self, store: Store, *, prevalence: float | None) -> None:
        """Use `store`, and judge for the site's present `prevalence`."""
        self._store = store
        self._prevalence = prevalence
        self._again: dict[_Key, Score] = {}

    def answered_alike(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Give films whose bytes their model has scored before the verdict of that score.

        Among equal films of one batch the first counts. Refusals stay as they are.

        Raises:
            DatabaseTrouble: the database failed.
        """
        known = self._earlier(outcomes)
        return [self._alike(outcome, known) for outcome in outcomes]

    def _earlier(self, outcomes: Sequence[Outcome]) -> dict[_Key, Score]:
        unknown: dict[str, set[str]] = defaultdict(set)
        for outcome in outcomes:
            if (key := _key(outcome)) is not None and key not in self._again:
                unknown[key[1]].add(key[0])
        earlier = {
            (sha256, version): score
            for version, digests in unknown.items()
            for sha256, score in self._store.earlier_scores(digests, version).items()
        }
        if len(self._again) + len(earlier) > _REMEMBERED:
            self._again.clear()
        self._again |= earlier
        return self._again | earlier

    def _alike(self, outcome: Outcome, known: dict[_Key, Score]) -> Outcome:
        verdict, model, key = outcome.verdict, outcome.model, _key(outcome)
        if verdict is None or model is None or key is None:
            return outcome
        before = known.get(key)
        if before is None:
            known[key] = Score(logit=verdict.logit, strangeness=verdict.strangeness)
            return outcome
        if not abs(before.logit - verdict.logit) <= SAME_LOGIT:
            # The earlier score cannot be of these bytes, so it is not used.
            return outcome
        return replace(
            outcome, verdict=judge(before, model, prevalence=self._prevalence), reused=True
        )


def _key(outcome: Outcome) -> _Key | None:
    if outcome.model is None or outcome.facts.sha256 is None:
        return None
    return outcome.facts.sha256, outcome.model.version
