"""The worker's transactions: claim, record, file away, beat.

A scan's states, each arrow one transaction:

    (sighting) -> claimed -> recorded -> filed        or claimed -> kept, if films stay in the inbox
                     |
                     +-> withdrawn                    the file went away or changed first

A result is accepted only from the worker and attempt that hold the claim. So a worker that froze
past its lease cannot record a film again that another worker took over.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    insert,
    literal,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from worker.db.engine import Database
from worker.db.rows import (
    prediction_row,
    refusal_of,
    sighting_in,
    sighting_row,
    verdict_row,
)
from worker.db.schema import (
    LAPSED,
    OPEN_PREDICATE,
    State,
    database_time,
    date_of,
    in_hand,
    is_below,
    model_versions,
    predictions,
    scans,
    workers,
)
from worker.model.decision import Score
from worker.model.manifest import Manifest
from worker.system.processes import Process
from worker.types import (
    Changes,
    Claim,
    ClaimAnswer,
    Outcome,
    Recorded,
    Report,
    Sighting,
)

_CHUNK = 400  # rows in one statement: well under SQLite's limit on bound values
_SIGHTING = (scans.c.id, scans.c.file_name, scans.c.size_bytes, scans.c.mtime_ns, scans.c.inode)
_CLAIM = (*_SIGHTING, scans.c.attempt, scans.c.crashes)


class Store:
    """The database as the worker uses it. Every method is one transaction.

    Every method raises `DatabaseTrouble` if the database fails.
    """

    def __init__(self, database: Database, process: Process) -> None:
        """Use `database` in the name of `process`."""
        self.database = database
        self.process = process
        self._upsert = sqlite.insert if database.is_sqlite else postgresql.insert

    # Claims

    def claim(self, sightings: Sequence[Sighting], *, lease_seconds: float) -> ClaimAnswer:
        """Claim sightings that nobody holds or has finished, in one transaction.

        A new sighting becomes a row, and one whose lease ran out is taken over. One that another
        worker holds, or that has its verdict, is not claimed. One that this worker already holds is
        claimed again: the worker asks for it only if the answer to its last claim was lost.
        """
        answer = ClaimAnswer(claims=[], kept=[])
        if not sightings:
            return answer
        with self.database.writing() as connection:
            for start in range(0, len(sightings), _CHUNK):
                chunk = sightings[start : start + _CHUNK]
                claims = self._claim(connection, chunk, lease_seconds)
                answer.claims.extend(claims)
                rest = set(chunk) - {claim.sighting for claim in claims}
                answer.kept.extend(_kept(connection, rest))
        return answer

    def _claim(
        self, connection: Connection, sightings: Sequence[Sighting], lease_seconds: float
    ) -> list[Claim]:
        fresh = {
            "state": literal(State.CLAIMED.value),
            "worker": literal(self.process.name),
            "lease_until": database_time(lease_seconds),
            "attempt": literal(1),
            "received_at": database_time(),
        }
        rows = self._upsert(scans).values(**fresh)
        statement = rows.on_conflict_do_update(
            index_elements=["file_name", "size_bytes", "mtime_ns", "inode"],
            index_where=text(OPEN_PREDICATE),
            set_={
                "worker": rows.excluded.worker,
                "lease_until": rows.excluded.lease_until,
                "attempt": scans.c.attempt + 1,
            },
            where=and_(
                scans.c.state == State.CLAIMED,
                or_(
                    scans.c.lease_until < database_time(),
                    scans.c.worker == rows.excluded.worker,
                ),
            ),
        ).returning(*_CLAIM)
        taken = connection.execute(statement, [sighting_row(one) for one in sightings]).all()
        return _claims(taken)

    def claim_by(self, statement: Update) -> list[Claim]:
        """Claim, in one transaction, the scans that a statement assigns to this worker."""
        with self.database.writing() as connection:
            return _claims(connection.execute(statement.returning(*_CLAIM)).all())

    def adopt_orphans(self, dead: Sequence[str]) -> None:
        """Free the claims of workers known to be dead, without waiting for their leases."""
        if not dead:
            return
        with self.database.writing() as connection:
            connection.execute(
                update(scans)
                .where(in_hand(State.CLAIMED), scans.c.worker.in_(dead))
                .values(lease_until=LAPSED)
            )
            connection.execute(
                update(workers)
                .where(workers.c.name.in_(dead), workers.c.stopped_at.is_(None))
                .values(stopped_at=database_time())
            )

    # Verdicts

    def apply(self, changes: Changes, *, keep: bool = False) -> list[Recorded]:
        """Commit everything in `changes` in one transaction.

        Args:
            changes: what to commit.
            keep: the files stay in the inbox and are not filed.

        Returns:
            The outcomes that were accepted. An outcome whose claim this worker no longer held is
            left out, because another worker has the film.
        """
        with self.database.writing() as connection:
            self._end(connection, changes.released, {"lease_until": LAPSED})
            crash = {"lease_until": LAPSED, "crashes": scans.c.crashes + 1}
            self._end(connection, changes.crashed, crash)
            self._end(connection, changes.withdrawn, {"state": State.WITHDRAWN.value})
            _mark_filed(connection, changes.filed)
            return self._record(connection, changes.outcomes, keep=keep)

    def _end(self, connection: Connection, claims: Sequence[Claim], values: dict[str, Any]) -> None:
        """End claims without a verdict, if this worker and attempt still hold them."""
        if not claims:
            return
        connection.execute(
            update(scans)
            .where(
                scans.c.id == bindparam("claim_id"),
                scans.c.attempt == bindparam("claim_attempt"),
                scans.c.worker == self.process.name,
                scans.c.state == State.CLAIMED,
            )
            .values(**values),
            [{"claim_id": claim.scan_id, "claim_attempt": claim.attempt} for claim in claims],
        )

    def _record(
        self, connection: Connection, outcomes: Sequence[Outcome], *, keep: bool
    ) -> list[Recorded]:
        by_id = {outcome.claim.scan_id: outcome for outcome in outcomes}
        accepted = [by_id[scan_id] for scan_id in self._still_held(connection, by_id)]
        if not accepted:
            return []
        state = State.KEPT if keep else State.RECORDED
        moment: datetime = connection.execute(select(database_time())).scalar_one()
        connection.execute(
            update(scans)
            .where(scans.c.id == bindparam("claim_id"))
            .values(state=state.value, screened_at=moment),
            [verdict_row(outcome) for outcome in accepted],
        )
        rows = [prediction_row(outcome) for outcome in accepted if outcome.verdict]
        if rows:
            connection.execute(insert(predictions).values(predicted_at=moment), rows)
        return [
            Recorded(
                scan_id=outcome.claim.scan_id,
                sighting=outcome.claim.sighting,
                day=moment.date().isoformat(),
                sha256=outcome.facts.sha256,
                refusal=outcome.refusal,
            )
            for outcome in accepted
        ]

    def _still_held(self, connection: Connection, by_id: dict[int, Outcome]) -> list[int]:
        if not by_id:
            return []
        rows = connection.execute(
            select(scans.c.id, scans.c.attempt)
            .where(
                scans.c.id.in_(by_id),
                scans.c.worker == self.process.name,
                scans.c.state == State.CLAIMED,
            )
            .with_for_update()
        )
        return [row.id for row in rows if by_id[row.id].claim.attempt == row.attempt]

    def earlier_scores(self, digests: Collection[str], model_version: str) -> dict[str, Score]:
        """Return this version's earlier scores of these bytes, by SHA-256, as far as it has any."""
        statement = (
            select(scans.c.sha256, predictions.c.logit, predictions.c.strangeness)
            .join(predictions, predictions.c.scan_id == scans.c.id)
            .where(scans.c.sha256.in_(digests))
            .where(predictions.c.model_version == model_version)
            .where(predictions.c.reused.is_(False))  # only one row for many copies
        )
        with self.database.reading() as connection:
            return {
                row.sha256: Score(logit=row.logit, strangeness=row.strangeness)
                for row in connection.execute(statement)
            }

    # Filing

    def unfiled(self, *, older_than_seconds: float, limit: int, after: int = 0) -> list[Recorded]:
        """Return scans whose file may still be in the inbox, by id.

        Args:
            older_than_seconds: recorded at least this long ago.
            limit: at most this many.
            after: only ids greater than this.
        """
        with self.database.reading() as connection:
            rows = connection.execute(
                select(
                    *_SIGHTING,
                    date_of(scans.c.screened_at).label("day"),
                    scans.c.sha256,
                    scans.c.refusal_code,
                    scans.c.refusal_sentence,
                    scans.c.refusal_measured,
                    scans.c.refusal_limit,
                )
                .where(in_hand(State.RECORDED), _older(older_than_seconds))
                .where(scans.c.id > after)
                .order_by(scans.c.id)
                .limit(limit)
            ).all()
        return [
            Recorded(
                scan_id=row.id,
                sighting=sighting_in(row),
                day=str(row.day),
                sha256=row.sha256,
                refusal=refusal_of(row),
            )
            for row in rows
        ]

    # Claims whose file is gone

    def lapsed(
        self, *, limit: int, archive: str | None = None, after: int = 0
    ) -> list[tuple[int, Sighting]]:
        """Return (scan id, sighting) of claims whose lease has run out, by id.

        Args:
            limit: at most this many.
            archive: only films below this folder, as `filenames.spell` writes it; None for films
                of the inbox. A film of an archive has its absolute path as name.
            after: only ids greater than this.
        """
        with self.database.reading() as connection:
            rows = connection.execute(
                select(*_SIGHTING)
                .where(in_hand(State.CLAIMED), scans.c.lease_until < database_time())
                .where(is_below(archive) if archive else ~is_below("/"))
                .where(scans.c.id > after)
                .order_by(scans.c.id)
                .limit(limit)
            )
            return [(row.id, sighting_in(row)) for row in rows]

    def withdraw_lapsed(self, scan_ids: Sequence[int]) -> None:
        """End lapsed claims whose file went away or changed, unless another worker took them."""
        if not scan_ids:
            return
        with self.database.writing() as connection:
            connection.execute(
                update(scans)
                .where(
                    scans.c.id.in_(scan_ids),
                    scans.c.state == State.CLAIMED,
                    scans.c.lease_until < database_time(),
                )
                .values(state=State.WITHDRAWN.value)
            )

    # Models and workers

    def register_model(self, manifest: Manifest) -> None:
        """Store a model version, before a prediction names it."""
        register_model(self.database, manifest)

    def beat(self, report: Report, *, lease_seconds: float, stopped: bool = False) -> None:
        """Record that this worker is alive, store its report, and renew its leases."""
        me = self.process
        row = self._upsert(workers).values(
            name=me.name,
            host=me.host,
            boot_id=me.boot_id,
            pid=me.pid,
            pid_started=me.pid_started,
            started_at=database_time(),
            beat_at=database_time(),
            stopped_at=database_time() if stopped else None,
            report=report.model_dump(mode="json"),
        )
        news = {name: row.excluded[name] for name in ("beat_at", "stopped_at", "report")}
        with self.database.writing() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["name"], set_=news))
            connection.execute(
                update(scans)
                .where(in_hand(State.CLAIMED), scans.c.worker == me.name)
                .where(scans.c.lease_until > database_time())
                .values(lease_until=database_time(lease_seconds))
            )

    def companions(self) -> list[Process]:
        """Return the other workers of this host that have not recorded a stop."""
        with self.database.reading() as connection:
            rows = connection.execute(
                select(workers).where(
                    workers.c.host == self.process.host,
                    workers.c.stopped_at.is_(None),
                    workers.c.name != self.process.name,
                )
            ).all()
        return [
            Process(
                name=row.name,
                host=row.host,
                boot_id=row.boot_id,
                pid=row.pid,
                pid_started=row.pid_started,
            )
            for row in rows
        ]


def register_model(database: Database, manifest: Manifest) -> None:
    """Store a model version. One that is stored already stays as it is."""
    upsert = sqlite.insert if database.is_sqlite else postgresql.insert
    row = upsert(model_versions).values(
        version=manifest.version,
        preprocessing_version=manifest.preprocessing_version,
        threshold=manifest.threshold,
        temperature=manifest.temperature,
        manifest=manifest.model_dump(mode="json"),
        registered_at=database_time(),
    )
    with database.writing() as connection:
        connection.execute(row.on_conflict_do_nothing(index_elements=["version"]))


def _older(seconds: float) -> Any:
    """Whether a scan was screened this long ago. 0 s matches all, whatever the clocks show."""
    return true() if seconds <= 0 else scans.c.screened_at <= database_time(-seconds)


def _claims(taken: Sequence[Row[Any]]) -> list[Claim]:
    """Return rows with the columns of `_CLAIM` as claims."""
    return [
        Claim(
            scan_id=row.id,
            sighting=sighting_in(row),
            attempt=row.attempt,
            crashes=row.crashes,
        )
        for row in taken
    ]


def _kept(connection: Connection, sightings: set[Sighting]) -> list[Sighting]:
    """Return the sightings that have their verdict and stay in the inbox."""
    if not sightings:
        return []
    rows = connection.execute(
        select(*_SIGHTING).where(
            scans.c.state == State.KEPT, scans.c.file_name.in_({one.name for one in sightings})
        )
    )
    return [one for one in map(sighting_in, rows) if one in sightings]


def _mark_filed(connection: Connection, places: Sequence[tuple[int, str | None]]) -> None:
    if not places:
        return
    connection.execute(
        update(scans)
        .where(scans.c.id == bindparam("recorded_id"), scans.c.state == State.RECORDED)
        .values(state=State.FILED.value, filed_at=database_time(), filed_as=bindparam("place")),
        [{"recorded_id": scan_id, "place": place} for scan_id, place in places],
    )
