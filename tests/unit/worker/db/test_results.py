"""What people ask for: found in their order, page by page, by an index however long the table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databases import execute
from scans import refusal, sightings, verdict, worker
from sqlalchemy import text

from worker.db.engine import Database
from worker.db.results import Query, Results, _page
from worker.db.status import read_status
from worker.errors import ScanError
from worker.types import Changes, WorkerReport

_LOGITS = {"NORMAL": -4.0, "REVIEW": 0.6, "PNEUMONIA": 4.0}
_WAYS = [*_LOGITS, "REVIEW", "refused", "NORMAL", "refused", "PNEUMONIA"]
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
QUERIES = [
    Query(limit=100),
    Query(limit=100, decision="REVIEW"),
    Query(limit=100, refused=True),
    Query(limit=100, since=LONG_AGO + timedelta(hours=3)),
    Query(limit=100, decision="NORMAL", since=LONG_AGO + timedelta(hours=3)),
]


@pytest.fixture
def results(database: Database) -> Results:
    """Return what reads a table of films that were screened in threes, an hour apart."""
    store = worker(database)
    store.register_model(model())
    claims = store.claim(sightings(24), lease_seconds=60).claims
    for start in range(0, 24, 3):
        ways = [(claim, _WAYS[(start + i) % 8]) for i, claim in enumerate(claims[start:][:3])]
        outcomes = [
            refusal(claim)
            if way == "refused"
            else verdict(claim, logit=_LOGITS[way], sha256=f"{claim.scan_id:064x}")
            for claim, way in ways
        ]
        recorded = store.apply(Changes(outcomes=outcomes))
        # Backwards in time, so that the order of ids is not that of screening.
        moment = LONG_AGO + timedelta(hours=8 - start // 3)
        for one in recorded:
            moved = {"at": moment.strftime("%Y-%m-%d %H:%M:%S.000000"), "id": one.scan_id}
            zone = "" if database.is_sqlite else "::timestamptz"
            at = f"CAST(:at AS text){zone}"
            execute(database, f"UPDATE scans SET screened_at = {at} WHERE id = :id", **moved)
            execute(
                database, f"UPDATE predictions SET predicted_at = {at} WHERE scan_id = :id", **moved
            )
    return Results(database)


def model() -> Any:
    """Return the manifest that the verdicts name."""
    from scans import manifest

    return manifest()


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_pages_make_up_the_whole(
    results: Results, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pages, all rows that were asked for come once, newest first."""
    everything = list(results.find(Query(limit=100)))
    assert [(row["screened_at"], row["scan_id"]) for row in everything] == sorted(
        ((row["screened_at"], row["scan_id"]) for row in everything), reverse=True
    )
    wanted = [
        row
        for row in everything
        if query.decision in (None, row["decision"])
        and (not query.refused or row["refusal_code"])
        and (query.since is None or row["screened_at"] >= query.since)
    ]
    assert 0 < len(wanted) <= len(everything) == 24
    monkeypatch.setattr("worker.db.results._PAGE", 2)
    assert list(results.find(query)) == wanted
    assert list(results.find(replace(query, limit=3))) == wanted[:3]
    # A person goes on from the last id that was shown.
    third = wanted[2]["scan_id"]
    assert list(results.find(replace(query, before=third))) == wanted[3:]


def test_before_a_scan_that_there_is_not(results: Results) -> None:
    """A mistyped id is told, and not taken for the end of the list."""
    with pytest.raises(ScanError, match="777"):
        results.find(Query(before=777))


@pytest.mark.parametrize("query", [*QUERIES, Query(before=5), Query(before=5, decision="REVIEW")])
def test_a_page_is_found_by_an_index(results: Results, query: Query) -> None:
    """No table is read through, and nothing sorted, to show the newest of ten million rows."""
    database = results._database
    with database.reading() as connection:
        statement = str(_page(query).compile(connection, compile_kwargs={"literal_binds": True}))
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        if not database.is_sqlite:  # which would rather read through a table of 24 rows
            for way in ("seqscan", "sort", "bitmapscan"):
                connection.execute(text(f"SET LOCAL enable_{way} = off"))
        plan = "\n".join(
            str(row[-1])
            for row in connection.execute(text(explain + statement.replace(":", "\\:")))
        )
    names = ("ix_scans_screened_at", "ix_scans_refused_at", "ix_predictions_decided_at")
    assert any(name in plan for name in names), plan
    assert "TEMP B-TREE" not in plan, plan
    assert "Sort" not in plan, plan
    assert "Seq Scan" not in plan, plan


def test_a_worker_that_was_killed_before_the_clock_was_set_back(database: Database) -> None:
    """A sign of life of tomorrow is none: nobody works here."""
    worker(database, "ward-1").beat(WorkerReport(), lease_seconds=60)
    assert read_status(database).is_well
    plus = "strftime('%Y-%m-%d %H:%M:%f000', beat_at, '+1 day')"
    tomorrow = plus if database.is_sqlite else "beat_at + interval '1 day'"
    execute(database, f"UPDATE workers SET beat_at = {tomorrow}")
    assert not read_status(database).is_well
