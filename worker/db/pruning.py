"""Chooses which model packages may be removed. The caller removes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.db.engine import Database
from worker.db.promotions import Promotions
from worker.db.status import read_status
from worker.errors import LungwatchError
from worker.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """A version that is not needed."""

    version: str


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A version that is old enough to remove and stays."""

    version: str
    why: str


def choose(
    registry: Registry, database: Database | None, *, keep: int, even_if_needed: bool
) -> Iterator[Prunable | Needed]:
    """Yield for each version but the newest whether it may be removed.

    Args:
        registry: with the versions.
        database: with the rows that name versions; may be None only with `even_if_needed`.
        keep: the number of newest versions to leave alone.
        even_if_needed: remove versions that rows name too. The champion always stays.

    Raises:
        RegistryError: the champion cannot be read.
        DatabaseTrouble: the database failed; then nothing may be removed.
    """
    made = {}
    for version in registry.versions():
        try:
            made[version] = registry.manifest(version).created_at
        except LungwatchError as error:
            yield Needed(version=version, why=f"it cannot be read: {error}")
    champion = registry.champion()
    rows: dict[str, int] = {}
    in_service: set[str | None] = {champion}
    if database is not None:
        rows = Promotions(database).rows_by_version()
        status = read_status(database)
        in_service |= {one.report.model for one in status.workers if one.alive}
    newest_first = sorted(made, key=lambda version: (made[version], version), reverse=True)
    for version in newest_first[keep:]:
        if version in in_service:
            yield Needed(version=version, why="it serves")
        elif rows.get(version) and not even_if_needed:
            yield Needed(version=version, why=f"{rows[version]} predictions name it")
        else:
            yield Prunable(version=version)
