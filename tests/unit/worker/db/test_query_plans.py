"""However long the tables grow, nothing that is asked of them now and again reads them through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from databases import query
from scans import SHA256, manifest, refusal, sightings, verdict, worker
from sqlalchemy import event, text

from worker.db.daily import days_of_refusals, last_before
from worker.db.engine import Database
from worker.db.lookup import find_scans
from worker.db.results import Query, Results
from worker.db.scans import Store
from worker.db.sharing import Sharing
from worker.db.status import read_status
from worker.types import Changes, WorkerReport

LEASE = 60.0


def a_batch(store: Store) -> None:
    """Claim films and end them in every way, as the pipeline does."""
    claims = store.claim(sightings(6), lease_seconds=LEASE).claims
    store.earlier_scores({SHA256}, "drawn-1")
    recorded = store.apply(
        Changes(
            outcomes=[verdict(claims[0]), refusal(claims[1])],
            released=claims[2:3],
            crashed=claims[3:4],
            withdrawn=claims[4:5],
        )
    )
    store.apply(Changes(filed=[(one.scan_id, "2026-01-01/film") for one in recorded]))


def a_kept_batch(store: Store) -> None:
    """The same where films stay in the inbox, and are found again."""
    claims = store.claim(sightings(2), lease_seconds=LEASE).claims
    store.apply(Changes(outcomes=[verdict(one) for one in claims]), keep=True)
    store.claim(sightings(2), lease_seconds=LEASE)


def a_beat(store: Store) -> None:
    """Say that the worker lives, and see who else does."""
    store.beat(WorkerReport(), lease_seconds=LEASE)
    store.companions()
    store.adopt_orphans(["ward-2"])
    Sharing(store).crew(lease_seconds=LEASE)


def a_recovery(store: Store) -> None:
    """Finish what was left."""
    store.unfiled(older_than_seconds=0, limit=10)
    store.unfiled(older_than_seconds=LEASE, limit=10)
    store.lapsed(limit=10)
    store.lapsed(limit=10, archive="/films")
    store.withdraw_lapsed([1])


def sharing(store: Store) -> None:
    """Offer films, and take what is offered."""
    Sharing(store).offer(sightings(3), most=8)
    Sharing(store).take(8, but={"film-9.jpg"}, lease_seconds=LEASE)


def asking(store: Store) -> None:
    """Ask what a person asks."""
    reader = Results(store.database)
    read_status(store.database)
    for wanted in (Query(), Query(decision="REVIEW"), Query(refused=True)):
        list(reader.find(wanted))
    reader.retriable("film-1.jpg")
    reader.retriable(SHA256[:12])
    with store.database.reading() as connection:
        find_scans(connection, {"film-1.jpg", "7", SHA256[:12]})


USES = [a_batch, a_kept_batch, a_beat, a_recovery, sharing, asking]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_no_table_is_read_through(database: Database, use: Callable[[Store], None]) -> None:
    """Every statement finds its rows by an index, or takes the newest few in an index's order."""
    store = worker(database)
    store.register_model(manifest())
    with overheard(database) as statements:
        use(store)
    assert statements
    for statement, values in statements:
        plan = plan_of(database, statement, values)
        assert not reads_through(plan), f"{statement}\n\n{plan}"


@contextmanager
def overheard(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Yield a list that fills with the statements that are executed, and their values."""
    said: list[tuple[str, Any]] = []

    def listen(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "INSERT", "UPDATE", "WITH"):
            said.append((statement, values[0] if isinstance(values, list) else values))

    event.listen(database.engine, "before_cursor_execute", listen)
    try:
        yield said
    finally:
        event.remove(database.engine, "before_cursor_execute", listen)


def plan_of(database: Database, statement: str, values: Any) -> str:
    """Return how the database would go about a statement, on tables that it takes for long."""
    with database.reading() as connection:
        if not database.is_sqlite:  # which would rather read through a table of six rows
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        return "\n".join(
            str(row[-1]) for row in connection.exec_driver_sql(explain + statement, values)
        )


def reads_through(plan: str) -> bool:
    """Whether a plan reads one of the long tables from end to end."""
    lines = [line.strip(" ->") for line in plan.splitlines()]
    return any(
        line.startswith(("Seq Scan on scans", "Seq Scan on predictions"))
        or (
            line.startswith("SCAN")
            and line.split()[1] in ("scans", "predictions", "s", "p")
            and "INDEX ix_scans_" not in line
        )
        for line in lines
    )


def test_days_of_refusals_are_found_by_their_indices(database: Database) -> None:
    """What drift asks of days on which all films were refused: those films, and one before."""
    store = worker(database)
    store.register_model(manifest())
    claims = store.claim(sightings(2), lease_seconds=LEASE).claims
    store.apply(Changes(outcomes=[verdict(claims[0]), refusal(claims[1])]))
    with overheard(database) as statements, database.reading() as connection:
        assert list(days_of_refusals(connection, since="2026-01-01"))
        assert last_before(connection, "9999-01-01") == manifest().version
    for statement, values in statements:
        plan = plan_of(database, statement, values)
        assert not reads_through(plan), f"{statement}\n\n{plan}"


def test_it_would_be_noticed(database: Database) -> None:
    """A condition that no index holds is told."""
    assert query(database, "SELECT 1 AS one") == [{"one": 1}]
    plan = plan_of(database, "SELECT id FROM scans WHERE contrast > 5", ())
    assert reads_through(plan), plan
