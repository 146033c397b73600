"""Sees to it that the same bytes get the same answer from a model, however often they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from worker.model import Score, judge
from worker.records import Outcome


def answered_alike(
    outcomes: Iterable[Outcome],
    earlier: Mapping[tuple[str, str], Score],
    *,
    prevalence: float | None,
) -> list[Outcome]:
    """Give films whose bytes their model has judged before the answer that it gave then.

    Of twins that come together the first is what the others are answered by.

    Args:
        outcomes: how claims end; refusals stay as they are.
        earlier: (SHA-256, model version) to the score that was given before.
        prevalence: as in `judge`: of the site as it is now.
    """
    known = dict(earlier)
    return [_alike(outcome, known, prevalence) for outcome in outcomes]


def _alike(
    outcome: Outcome, known: dict[tuple[str, str], Score], prevalence: float | None
) -> Outcome:
    verdict, model, sha256 = outcome.verdict, outcome.model, outcome.facts.sha256
    if verdict is None or model is None or sha256 is None:
        return outcome
    before = known.get((sha256, model.version))
    if before is None:
        score = Score(logit=verdict.logit, strangeness=verdict.strangeness)
        known[sha256, model.version] = score
        return outcome
    return replace(outcome, verdict=judge(before, model, prevalence=prevalence), reused=True)
