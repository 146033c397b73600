"""The same bytes get the same answer from a model, and the database is not asked without end."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from scans import refusal, sightings, verdict

from worker.model.decision import Score
from worker.service.dedupe import Repeats
from worker.types import Claim, Outcome

BEFORE = Score(logit=1.99)


class Memory:
    """In a store's place: has seen some bytes, and counts how often it is asked."""

    def __init__(self, seen: Collection[str]) -> None:
        """Know what version drawn-1 said of these digests."""
        self._seen = seen
        self.asked: list[set[str]] = []

    def earlier_scores(self, digests: Collection[str], version: str) -> dict[str, Score]:
        """As a store's."""
        self.asked.append(set(digests))
        return {one: BEFORE for one in digests if one in self._seen and version == "drawn-1"}


def repeats(memory: Memory) -> Repeats:
    """Return what gives the answers of before, for a site with no prevalence of its own."""
    return Repeats(memory, prevalence=None)  # type: ignore[arg-type]


def outcomes(*digests: str, version: str = "drawn-1", logit: float = 2.0) -> list[Outcome]:
    """Return predicted films of these bytes."""
    claims = [
        Claim(scan_id=number, sighting=one, attempt=1, crashes=0)
        for number, one in enumerate(sightings(len(digests)), start=1)
    ]
    return [
        verdict(claim, sha256=digest, version=version, logit=logit)
        for claim, digest in zip(claims, digests, strict=True)
    ]


def logits(answered: list[Outcome]) -> list[tuple[float, bool]]:
    """Return what films were answered by, and whether that is from before."""
    return [(one.verdict.logit, one.reused) for one in answered if one.verdict is not None]


def test_what_was_said_before_and_what_twins_are_told() -> None:
    """Known bytes get their answer of before; of twins the first is what both are answered by."""
    first, *rest = outcomes("new", "known", "new", logit=2.0)
    assert first.verdict is not None
    later = replace(rest[1], verdict=replace(first.verdict, logit=2.001))
    found = repeats(Memory({"known"})).answered_alike([first, rest[0], later])
    assert logits(found) == [(2.0, False), (1.99, True), (2.0, True)]


def test_another_films_answer_is_not_theirs() -> None:
    """What was said of bytes by whoever did not read them is not what they are answered by."""
    found = repeats(Memory({"known"})).answered_alike(outcomes("known", logit=-3.0))
    assert logits(found) == [(-3.0, False)]


def test_another_model_answers_for_itself() -> None:
    """What one version said of some bytes says nothing of what another will."""
    found = repeats(Memory({"known"})).answered_alike(outcomes("known", version="drawn-2"))
    assert logits(found) == [(2.0, False)]


def test_refusals_stay() -> None:
    """A refused film has no answer to be like."""
    [predicted] = outcomes("known")
    refused = refusal(predicted.claim)
    assert repeats(Memory({"known"})).answered_alike([refused]) == [refused]


def test_what_comes_again_and_again_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film dropped a million times is looked up once; and no more is kept than there should."""
    monkeypatch.setattr("worker.service.dedupe._REMEMBERED", 3)
    memory = Memory({"known", *"abc"})
    again = repeats(memory)
    for _ in range(5):
        assert logits(again.answered_alike(outcomes("known"))) == [(1.99, True)]
    assert memory.asked == [{"known"}]
    again.answered_alike(outcomes(*"abc"))  # too many with the one before, which is forgotten
    again.answered_alike(outcomes("known"))
    assert memory.asked == [{"known"}, set("abc"), {"known"}]
