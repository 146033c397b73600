"""Models in the database: promotions, and whether rows still need a version."""

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

# The fields of a manifest that change predictions.
_DECIDING = (
    *("classes", "height", "width", "preprocessing_version"),
    *("temperature", "threshold", "review_band", "familiar"),
)


class Promotions:
    """Promotions and model versions in the database. Every method is one transaction.

    Every method raises `DatabaseTrouble` if the database fails.
    """

    def __init__(self, database: Database) -> None:
        """Use `database`."""
        self._database = database

    def record(self, history: Sequence[Change]) -> None:
        """Store those changes of a registry's history that are not stored yet.

        The registry's HISTORY is written first and is authoritative. The table is a copy of it.
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
        """Return the first field that changes predictions and differs from the stored manifest.

        A package whose manifest was changed with its files passes its own checks. The manifest
        stored with the version's rows shows the change.
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
            if facts[name] != known.get(name):  # format 1 has no `familiar`: None here too
                return name
        for name in (SERVED, FAMILIAR):
            if _digest(facts, name) != _digest(known, name):
                return name
        return None

    def rows_by_version(self) -> dict[str, int]:
        """Return the number of predictions by version. A version with rows must be kept."""
        statement = select(predictions.c.model_version, func.count()).group_by(
            predictions.c.model_version
        )
        with self._database.reading() as connection:
            return {version: int(count) for version, count in connection.execute(statement)}


def _digest(manifest: Mapping[str, Any], name: str) -> str | None:
    digest: str | None = manifest["files"].get(name, {}).get("sha256")
    return digest
