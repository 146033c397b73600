"""One model predicts the same bytes once, also when they come together."""

from __future__ import annotations

from typing import Any

import pytest
from scans import SHA256, sighting, verdict, worker

from worker.database import Database
from worker.errors import DatabaseTrouble
from worker.model import Score
from worker.records import Changes, Claim, Facts
from worker.seen import SeenBytes

FACTS = Facts(sha256=SHA256)
VERSION = "drawn-1"


class NoMemory:
    """In a store's place: nothing was said before."""

    asked = 0

    def earlier_score(self, *_: Any) -> Score | None:
        """Know nothing."""
        self.asked += 1
        return None


def seen() -> SeenBytes:
    """Return a memory with nothing in it."""
    return SeenBytes(NoMemory())  # type: ignore[arg-type]


def claim(scan_id: int, *, size_seen: bool = True, size_bytes: int = 1000) -> Claim:
    """Return a claim of its own."""
    return Claim(
        scan_id=scan_id,
        sighting=sighting(f"film-{scan_id}", size_bytes=size_bytes),
        attempt=1,
        crashes=0,
        size_seen=size_seen,
    )


def test_the_first_is_predicted_the_next_wait() -> None:
    """Who asks first is predicted; who asks of the same bytes waits, and gets the answer."""
    memory, first, second, third = seen(), claim(1), claim(2), claim(3)
    assert memory.ask(first, SHA256, VERSION)
    assert not memory.ask(second, SHA256, VERSION)
    assert not memory.ask(third, SHA256, VERSION)
    assert memory.wait_for_twin(second, FACTS, VERSION)
    assert memory.wait_for_twin(third, FACTS, VERSION)
    assert memory.answered(SHA256, VERSION, Score(logit=1.25)) == [(second, FACTS), (third, FACTS)]
    assert memory.score(SHA256, VERSION) == Score(logit=1.25)
    assert not memory.ask(claim(4), SHA256, VERSION)
    assert memory.answered(SHA256, VERSION, Score(logit=1.25)) == []


def test_another_model_predicts_for_itself() -> None:
    """What one model said of some bytes says nothing of what another will."""
    memory = seen()
    memory.answered(SHA256, "drawn-1", Score(logit=1.25))
    assert memory.score(SHA256, "drawn-2") is None
    assert memory.ask(claim(1), SHA256, "drawn-2")


def test_those_who_waited_for_nothing() -> None:
    """When the film that was to be predicted comes to nothing, those who waited go on without."""
    memory, first, second = seen(), claim(1), claim(2)
    memory.ask(first, SHA256, VERSION)
    memory.wait_for_twin(second, FACTS, VERSION)
    assert memory.orphans(claim(9)) == []
    assert memory.orphans(first) == [second]
    assert memory.orphans(first) == []
    assert not memory.wait_for_twin(second, FACTS, VERSION), "nobody is at it any more"
    assert memory.ask(second, SHA256, VERSION)


def test_a_film_that_might_be_a_twin_waits_for_one_that_does_not_ask() -> None:
    """While a film that will not ask is out, one of its size that would must wait its turn."""
    memory, silent, asking = seen(), claim(1, size_seen=False), claim(2)
    memory.gone(silent)
    assert not memory.may_go(asking)
    assert memory.may_go(claim(3, size_bytes=999))
    memory.done(silent)
    assert memory.may_go(asking)
    memory.gone(asking)
    assert memory.may_go(claim(4)), "two that both ask may go together"


def test_what_the_database_knows(database: Database) -> None:
    """Bytes that the model has seen in an earlier run are not predicted again."""
    from scans import manifest

    store = worker(database)
    store.register_model(manifest())
    [held] = store.claim([sighting()], lease_seconds=60).claims
    store.apply(Changes(outcomes=[verdict(held, logit=0.75)]))
    memory = SeenBytes(store)
    assert not memory.ask(claim(7), SHA256, VERSION)
    assert memory.score(SHA256, VERSION) == Score(logit=0.75)
    assert memory.ask(claim(8), "0" * 64, VERSION)


def test_a_database_that_is_away() -> None:
    """Without the database a film is predicted again rather than not at all."""

    class Away:
        def earlier_score(self, *_: Any) -> Score | None:
            raise DatabaseTrouble("away")

    memory = SeenBytes(Away())  # type: ignore[arg-type]
    assert memory.ask(claim(1), SHA256, VERSION)


def test_it_remembers_no_more_than_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many films pass, only the latest answers are kept in memory."""
    monkeypatch.setattr("worker.seen._ANSWERS_KEPT", 3)
    memory = seen()
    for number in range(5):
        memory.answered(f"{number}", VERSION, Score(logit=float(number)))
    kept = [number for number in range(5) if memory.score(f"{number}", VERSION) is not None]
    assert kept == [2, 3, 4]
