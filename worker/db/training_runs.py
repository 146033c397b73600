"""The record of nights: training data, measurements, verdict and reasons.

A row of `training_runs` is inserted when a night begins and closed when it ends, whatever the
outcome. `details` is filled on the way, so that a killed night shows how far it came. `explain`
collects everything about a version.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from worker.db.engine import Database
from worker.db.scans import register_model
from worker.db.schema import database_time, model_versions, predictions, training_runs
from worker.model.evaluation import Looks
from worker.model.manifest import Manifest

_LOOKED_AT = "looked_at"  # key in `details`: the digest of the test films


class Ruling(StrEnum):
    """How a night ended. Stable: people query `training_runs.verdict`."""

    PROMOTED = "promoted"  # the challenger serves
    PROPOSED = "proposed"  # it passed; a person may run `lungwatch models promote`
    HELD = "held"  # the champion stays, for the reasons given
    UNCHANGED = "unchanged"  # nothing new since the last night: nothing was trained
    FAILED = "failed"  # an error ended the night; it is the reason given
    INTERRUPTED = "interrupted"  # it was stopped or killed


class TrainingRuns:
    """The rows of nights. Every method raises `DatabaseTrouble` if the database fails."""

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def open(self, place: str, details: Mapping[str, Any]) -> int:
        """Insert the row of a night that begins, and return its id.

        Args:
            place: host and folder, on which only one night runs at a time. Open rows of this place
                are of killed nights, and are closed.
            details: what is known at the start.
        """
        killed = "The night was killed, or the machine went down."
        with self._database.writing() as connection:
            left_open = connection.execute(
                select(training_runs.c.id, training_runs.c.details).where(
                    training_runs.c.finished_at.is_(None)
                )
            ).all()
            for run in left_open:
                if (run.details or {}).get("place") == place:
                    values = {"verdict": Ruling.INTERRUPTED.value, "reasons": [killed]}
                    _close(connection, run.id, values)
            opened = insert(training_runs).values(
                started_at=database_time(), details=_json({**details, "place": place})
            )
            number: int = connection.execute(opened.returning(training_runs.c.id)).scalar_one()
            return number

    def note(self, run: int, details: Mapping[str, Any]) -> None:
        """Add to a night's details."""
        with self._database.writing() as connection:
            _note(connection, run, details)

    def look(self, run: int, test_digest: str) -> Looks:
        """Record that a night measures on test films, before it does, and count such looks.

        Args:
            run: the night.
            test_digest: of the test films and their labels.
        """
        looked = select(func.count(training_runs.c.test_digest))
        with self._database.writing() as connection:
            _note(connection, run, {_LOOKED_AT: test_digest}, test_digest=test_digest)
            looks = Looks(
                this_set=connection.execute(
                    looked.where(training_runs.c.test_digest == test_digest)
                ).scalar_one(),
                any_set=connection.execute(looked).scalar_one(),
            )
            _note(connection, run, {"looks": looks.model_dump()})
            return looks

    def close(
        self,
        run: int,
        *,
        ruling: Ruling,
        reasons: Sequence[str],
        champion: str | None = None,
        challenger: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Close a night's row with its ruling.

        Args:
            run: the night.
            ruling: how the night ended.
            reasons: the result of every check, or what went wrong.
            champion: the version that served when the challenger was judged.
            challenger: the version that the night made.
            details: added to the details.
        """
        values = {
            "verdict": ruling.value,
            "reasons": _json(reasons),
            "champion": champion,
            "challenger": challenger,
        }
        with self._database.writing() as connection:
            _note(connection, run, details or {})
            _close(connection, run, values)

    def register(self, manifest: Manifest) -> None:
        """Store a version, whether or not it ever serves."""
        register_model(self._database, manifest)

    def explain(self, version: str) -> dict[str, Any]:
        """Return what the database holds on a version.

        Returns:
            `version`; `model`, its row in `model_versions` or None; `made_by`, the nights with it
            as challenger, and `defended_in`, those with it as champion, both newest first and as
            in `training_runs`; `predictions`: `counts` by origin and decision, `first_at` and
            `last_at`.
        """
        asked = select(training_runs).order_by(training_runs.c.id.desc())
        made = predictions.c.model_version == version
        with self._database.reading() as connection:
            model = connection.execute(
                select(model_versions).where(model_versions.c.version == version)
            ).mappings()
            row = model.one_or_none()
            counted = connection.execute(
                select(predictions.c.origin, predictions.c.decision, func.count())
                .where(made)
                .group_by(predictions.c.origin, predictions.c.decision)
                .order_by(predictions.c.origin, predictions.c.decision)
            ).all()
            first, last = connection.execute(
                select(
                    func.min(predictions.c.predicted_at), func.max(predictions.c.predicted_at)
                ).where(made)
            ).one()
            challenger, champion = training_runs.c.challenger, training_runs.c.champion
            return {
                "version": version,
                "model": None if row is None else dict(row),
                "made_by": _rows(connection, asked.where(challenger == version)),
                "defended_in": _rows(
                    connection, asked.where(champion == version, challenger.is_not(None))
                ),
                "predictions": {
                    "counts": [
                        {"origin": origin, "decision": decision, "count": count}
                        for origin, decision, count in counted
                    ],
                    "first_at": first,
                    "last_at": last,
                },
            }

    def nights(self, limit: int = 50) -> list[dict[str, Any]]:
        """Return the latest nights as in `training_runs`, newest first."""
        with self._database.reading() as connection:
            return _rows(
                connection, select(training_runs).order_by(training_runs.c.id.desc()).limit(limit)
            )


def _rows(connection: Connection, statement: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(statement).mappings()]


def _note(connection: Connection, run: int, details: Mapping[str, Any], **columns: str) -> None:
    one = training_runs.c.id == run
    known = connection.scalar(select(training_runs.c.details).where(one)) or {}
    merged = {**known, **_json(details)}
    connection.execute(update(training_runs).where(one).values(details=merged, **columns))


def _close(connection: Connection, run: int, values: Mapping[str, Any]) -> None:
    connection.execute(
        update(training_runs)
        .where(training_runs.c.id == run)
        .values(finished_at=database_time(), **values)
    )


def _json(value: Any) -> Any:
    r"""Return a value that JSON in either database can hold.

    A number that is not finite becomes null. A byte of a file name that is not UTF-8 is written
    out as `\udcfc`.
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_json(str(key)): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
