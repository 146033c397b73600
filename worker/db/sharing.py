"""How workers that share an inbox divide the work: one lists it, and all screen what it found.

The longest-running worker without trouble lists. Films beyond what it can screen soon are offered
to the others: an offer is a claim that nobody holds yet. Each worker finds out from the same rows
who lists, so workers may come and go. If two list for a moment, no harm is done, because a film
belongs to the worker that claims it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, literal, or_, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from worker.db.rows import sighting_row
from worker.db.scans import Store
from worker.db.schema import (
    LAPSED,
    NOBODY,
    OPEN_PREDICATE,
    State,
    database_time,
    in_hand,
    scans,
    workers,
)
from worker.system.processes import is_running
from worker.types import Claim, Report, Sighting, WorkerReport, read_report


@dataclass(frozen=True, kw_only=True)
class Crew:
    """The workers of one inbox, as seen by one of them."""

    others: int = 0  # alive and without trouble
    lists: bool = True  # whether this worker lists


class Sharing:
    """The transactions of workers that share an inbox.

    Every method raises `DatabaseTrouble` if the database fails.
    """

    def __init__(self, store: Store) -> None:
        """Use a store's database and process."""
        self._store = store
        self._database = store.database

    def crew(self, *, lease_seconds: float) -> Crew:
        """Return the workers alive: those with a beat within a lease."""
        me = self._store.process.name
        with self._database.reading() as connection:
            alive = connection.execute(
                select(workers.c.name, workers.c.report)
                .where(
                    workers.c.stopped_at.is_(None),
                    workers.c.beat_at > database_time(-lease_seconds),
                )
                .order_by(workers.c.started_at, workers.c.name)
            ).all()
        fit = [
            row.name
            for row in alive
            # Workers with trouble, and backfills, do not take part.
            if row.name == me or _has_a_part(read_report(row.report))
        ]
        return Crew(others=sum(name != me for name in fit), lists=fit[:1] in ([me], []))

    def adopt_orphans(self) -> None:
        """Free at once the claims of workers of this host that died."""
        dead = [one.name for one in self._store.companions() if not is_running(one)]
        self._store.adopt_orphans(dead)

    def offer(self, sightings: Sequence[Sighting], *, most: int) -> int:
        """Offer films to any worker with room, so that at most `most` are on offer.

        A film that is known already, claimed or done, is not offered again.

        Returns:
            The number of sightings, from the first on, that are done with.
        """
        upsert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        offers = upsert(scans).values(
            state=literal(State.CLAIMED.value),
            worker=literal(NOBODY),
            lease_until=LAPSED,
            attempt=literal(0),
            received_at=database_time(),
        )
        known = offers.on_conflict_do_nothing(
            index_elements=["file_name", "size_bytes", "mtime_ns", "inode"],
            index_where=text(OPEN_PREDICATE),
        )
        with self._database.writing() as connection:
            open_ones = connection.scalar(
                select(func.count())
                .select_from(scans)
                .where(in_hand(State.CLAIMED), scans.c.worker == NOBODY)
            )
            chosen = sightings[: max(0, most - (open_ones or 0))]
            if chosen:
                connection.execute(known, [sighting_row(one) for one in chosen])
        return len(chosen)

    def take(self, most: int, *, but: Collection[str], lease_seconds: float) -> list[Claim]:
        """Claim up to `most` films on offer, except names that this worker has in hand.

        A film claimed by this worker and not in hand is claimed again: the answer to the first
        claim was lost, and nobody else can take it while this worker lives.
        """
        me = self._store.process.name
        free = and_(
            in_hand(State.CLAIMED),
            or_(
                scans.c.worker == NOBODY,
                and_(scans.c.worker == me, scans.c.lease_until > database_time()),
            ),
        )
        offered = (
            select(scans.c.id)
            .where(free, scans.c.file_name.not_in(list(but)))
            .order_by(scans.c.id)
            .limit(most)
            .with_for_update(skip_locked=True)  # for Postgres; SQLite has one writer
            .cte("offered")  # evaluated once; a subquery may run once per row
        )
        taken = (
            update(scans)
            .where(scans.c.id.in_(select(offered.c.id)))
            .where(free)
            .values(
                worker=me,
                lease_until=database_time(lease_seconds),
                attempt=scans.c.attempt + 1,
            )
        )
        return self._store.claim_by(taken)


def _has_a_part(report: Report) -> bool:
    return isinstance(report, WorkerReport) and not report.trouble
