"""How workers that share an inbox share the work: one lists it, and all screen what it found.

The worker that has been at it longest lists, if nothing troubles it. What it finds beyond what it
can screen soon it offers to the others: an offer is a claim that nobody holds yet. Nobody is
appointed, and nothing is to be told to a worker that comes or goes: each sees from the same rows
who lists. Two that both do so for a moment do no harm, for a film belongs to whoever claims it.
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
    """The workers of one inbox, as one of them sees them."""

    others: int = 0  # alive, and nothing troubles them
    lists: bool = True  # it is this one that lists


class Sharing:
    """The transactions by which workers share an inbox.

    Every method raises `DatabaseTrouble` when the database cannot be reached or will not.
    """

    def __init__(self, store: Store) -> None:
        """Share what is in this store's database."""
        self._store = store
        self._database = store.database

    def crew(self, *, lease_seconds: float) -> Crew:
        """Return who works here: whoever gave a sign of life within a lease."""
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
            # Whoever screens an archive has no part in the inbox.
            if row.name == me or _has_a_part(read_report(row.report))
        ]
        return Crew(others=sum(name != me for name in fit), lists=fit[:1] in ([me], []))

    def adopt_orphans(self) -> None:
        """Take over at once what workers that died on this host had in hand."""
        dead = [one.name for one in self._store.companions() if not is_running(one)]
        self._store.adopt_orphans(dead)

    def offer(self, sightings: Sequence[Sighting], *, most: int) -> int:
        """Offer films to whoever has room, so that at most so many are on offer.

        A film that is known already, held by somebody or answered, is not offered again.

        Returns:
            How many of the sightings, from the first on, are dealt with.
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
        """Claim up to `most` films that are on offer, but for names that this worker has in hand.

        One that is this worker's and not in hand is taken anew: the answer that it was taken was
        lost on the way, and as long as it lives nobody else would have it.
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
            .with_for_update(skip_locked=True)  # another takes those now; SQLite takes turns
            .cte("offered")  # asked once: as a subquery it may be asked again for every row
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
