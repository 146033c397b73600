"""Trouble of our own: said once for each kind, backed off from, and over when it is."""

from __future__ import annotations

import random

from worker.errors import DatabaseTrouble, StorageTrouble
from worker.system.trouble import Troubles

LONGEST = 15.0


def test_news_once_for_each_kind() -> None:
    """The first of a kind is news, the rest are counted, and the latest words stand."""
    troubles = Troubles()
    assert troubles.note(DatabaseTrouble("refused"), 1.0)
    assert not troubles.note(DatabaseTrouble("still refused"), 2.0)
    assert troubles.note(StorageTrouble("full"), 3.0)
    database = troubles.now["database"]
    assert (database.count, database.since, str(database)) == (2, 1.0, "database: still refused")
    assert str(troubles.last) == "storage: full"


def test_waits_grow_and_end() -> None:
    """Each failure puts off the next try for longer, within bounds, and never for good."""
    troubles, now, waits = Troubles(random.Random(1)), 100.0, []
    for _ in range(200):
        troubles.note(DatabaseTrouble("away"), now)
        waits.append(troubles.retry_at - now)
        now = troubles.retry_at
    assert all(0 < wait <= LONGEST for wait in waits)
    assert waits[0] < 1
    assert min(waits[20:]) >= LONGEST / 2


def test_waits_differ() -> None:
    """Two workers in the same trouble do not come back at the same instant."""
    retries = set()
    for seed in range(10):
        troubles = Troubles(random.Random(seed))
        troubles.note(DatabaseTrouble("away"), 0.0)
        retries.add(troubles.retry_at)
    assert len(retries) == 10


def test_over() -> None:
    """When all is well what was is told once; the next trouble is news, and waits little."""
    troubles = Troubles()
    for _ in range(9):
        troubles.note(DatabaseTrouble("away"), 5.0)
    [past] = troubles.over()
    assert (past.kind, past.count, past.since) == ("database", 9, 5.0)
    assert troubles.over() == []
    assert troubles.retry_at == 0.0
    assert troubles.note(DatabaseTrouble("away"), 50.0)
    assert troubles.retry_at < 51.0
    assert str(troubles.last) == "database: away", "what was last is still known"
