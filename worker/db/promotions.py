"""What the database knows of models: when each was promoted, and whether a row needs it still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from worker.db.engine import Database
from worker.db.schema import model_versions, predictions, promotions
from worker.model.familiarity import FAMILIAR
from worker.model.history import Change, Kind
from worker.model.manifest import SERVED, Manifest

# What of a manifest a prediction depends on, beside the weights.
_DECIDING = (
    *("classes", "height", "width", "preprocessing_version"),
    *("temperature", "threshold", "review_band", "familiar"),
)


class Promotions:
    """The models' side of the database. Every method is one transaction.

    Every method raises `DatabaseTrouble` when the database cannot be reached or will not.
    """

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def record(self, history: Sequence[Change]) -> None:
        """Write down those changes of a registry's history that are not written down yet.

        The registry's HISTORY comes first and is the truth; the table follows it whoever promoted.
        """
        rows = [
            {
                "version": change.version,
                "at": change.at,
                "kind": change.kind.value,
                "from_version": change.from_version,
                "who": change.who,
                "why": change.why,
            }
            for change in history
            if change.kind is not Kind.SHIPPED
        ]
        if not rows:
            return
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = insert(promotions).on_conflict_do_nothing(index_elements=["version", "at"])
        with self._database.writing() as connection:
            connection.execute(statement, rows)

    def of(self, version: str) -> list[Mapping[str, Any]]:
        """Return the promotions to and from a version, oldest first."""
        statement = (
            select(promotions)
            .where(or_(promotions.c.version == version, promotions.c.from_version == version))
            .order_by(promotions.c.at, promotions.c.id)
        )
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def what_differs(self, manifest: Manifest) -> str | None:
        """Return what decides a prediction and is not as it is on record for this version.

        A package that was changed, manifest and all, passes its own checks; what its version's
        rows were predicted by is still on record here.
        """
        statement = select(model_versions.c.manifest).where(
            model_versions.c.version == manifest.version
        )
        with self._database.reading() as connection:
            known = connection.scalar(statement)
        if known is None:
            return None
        facts = manifest.model_dump(mode="json")
        for name in _DECIDING:
            if facts[name] != known.get(name):  # format 1 knew of no `familiar`: None, as here
                return name
        for name in (SERVED, FAMILIAR):
            if _digest(facts, name) != _digest(known, name):
                return name
        return None

    def rows_by_version(self) -> dict[str, int]:
        """Return how many predictions name each version: as long as any does, it explains them."""
        statement = select(predictions.c.model_version, func.count()).group_by(
            predictions.c.model_version
        )
        with self._database.reading() as connection:
            return {version: int(count) for version, count in connection.execute(statement)}


def _digest(manifest: Mapping[str, Any], name: str) -> str | None:
    digest: str | None = manifest["files"].get(name, {}).get("sha256")
    return digest
