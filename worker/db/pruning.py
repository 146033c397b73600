"""Which model packages may be removed: pure choice; whoever asked removes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.db.engine import Database
from worker.db.promotions import Promotions
from worker.db.status import how_things_stand
from worker.errors import LungwatchError
from worker.model.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Prunable:
    """A version that nobody needs."""

    version: str


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A version that is old enough to go, and stays."""

    version: str
    why: str


def choose(
    registry: Registry, database: Database | None, *, keep: int, even_if_needed: bool
) -> Iterator[Prunable | Needed]:
    """Say of each version that is not among the newest whether it may be removed.

    Args:
        registry: where they are.
        database: whose rows name versions; may be None only with `even_if_needed`.
        keep: so many of the newest are passed over.
        even_if_needed: what rows name may go all the same. What serves never may.

    Raises:
        RegistryError: it cannot be read what serves.
        DatabaseTrouble: it cannot be asked what rows need: then nothing is removable.
    """
    made = {}
    for version in registry.versions():
        try:
            made[version] = registry.manifest(version).created_at
        except LungwatchError as error:
            yield Needed(version=version, why=f"it cannot be told what it is: {error}")
    champion = registry.champion()
    rows: dict[str, int] = {}
    in_service: set[str | None] = {champion}
    if database is not None:
        rows = Promotions(database).rows_by_version()
        status = how_things_stand(database)
        in_service |= {one.report.model for one in status.workers if one.alive}
    newest_first = sorted(made, key=lambda version: (made[version], version), reverse=True)
    for version in newest_first[keep:]:
        if version in in_service:
            yield Needed(version=version, why="it serves")
        elif rows.get(version) and not even_if_needed:
            yield Needed(version=version, why=f"{rows[version]} rows were predicted by it")
        else:
            yield Prunable(version=version)
