"""Where films are, by their rows: files that a row names, and films old enough to discard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, update

from worker.db.engine import Database
from worker.db.schema import State, in_hand, labels, scans

_PAGE = 200  # films read from the database at a time
_CHUNK = 400  # names in one statement: well under SQLite's limit on bound values


@dataclass(frozen=True, kw_only=True)
class OldFilm:
    """A film that may be discarded."""

    scan_id: int
    place: str  # path below its folder, as `filenames.spell` writes it
    sha256: str | None
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The number and size of the films to discard."""

    films: int
    size_bytes: int
    labelled: int  # equally old films that stay, because training needs their labels


class OldFilms:
    """Films without a label that are old enough to discard.

    Every method raises `DatabaseTrouble` if the database fails.
    """

    def __init__(self, database: Database, *, refused: bool, before: datetime) -> None:
        """Choose archived or refused films, screened before `before`."""
        self._database = database
        self._old = and_(
            scans.c.state == State.FILED,
            scans.c.filed_as.is_not(None),
            scans.c.screened_at < before,
            scans.c.refusal_code.is_not(None) if refused else scans.c.refusal_code.is_(None),
        )

    def extent(self) -> Extent:
        """Return how much would be discarded, and how many films stay for their label."""
        size = func.coalesce(func.sum(scans.c.size_bytes), 0)
        with self._database.reading() as connection:
            going = connection.execute(
                select(func.count(), size).select_from(scans).where(self._old, ~_has_label())
            ).one()
            staying = select(func.count()).select_from(scans).where(self._old, _has_label())
            return Extent(
                films=going[0], size_bytes=int(going[1]), labelled=connection.scalar(staying) or 0
            )

    def pages(self) -> Iterator[list[OldFilm]]:
        """Yield the films in groups, oldest first."""
        last: tuple[datetime, int] | None = None
        while True:
            statement = select(scans).where(self._old, ~_has_label())
            if last is not None:
                at, number = last
                statement = statement.where(
                    scans.c.screened_at >= at,
                    or_(scans.c.screened_at > at, scans.c.id > number),
                )
            ordered = statement.order_by(scans.c.screened_at, scans.c.id).limit(_PAGE)
            with self._database.reading() as connection:
                rows = connection.execute(ordered).all()
            yield [
                OldFilm(
                    scan_id=row.id,
                    place=row.filed_as,
                    sha256=row.sha256,
                    size_bytes=row.size_bytes,
                )
                for row in rows
            ]
            if len(rows) < _PAGE:
                return
            last = (rows[-1].screened_at, rows[-1].id)


def forget_places(database: Database, scan_ids: Sequence[int]) -> None:
    """Clear the places of films that were removed, so that other films may take them."""
    if not scan_ids:
        return
    with database.writing() as connection:
        connection.execute(
            update(scans)
            .where(scans.c.id.in_(scan_ids), scans.c.state == State.FILED)
            .values(filed_as=None)
        )


def is_filing(database: Database) -> bool:
    """Whether a film is recorded and not yet filed."""
    with database.reading() as connection:
        return _is_filing(connection)


def named_films(
    database: Database, day: str, folder: str, names: Sequence[str]
) -> tuple[set[str], bool]:
    """Return the films of a day's folder that a row names, and whether films are being filed.

    Args:
        database: with the rows.
        day: the folder's name, YYYY-MM-DD.
        folder: its absolute path, as `filenames.spell` writes it. A backfill of the archive may
            have screened films in it.
        names: of the films in it, spelled.
    """
    with database.reading() as connection:
        filing = _is_filing(connection)
        places = _places(connection, day)
        named = {name for name in names if f"{day}/{name}" in places}
        kept = _kept(connection, folder, [name for name in names if name not in named])
    return named | kept, filing


def _is_filing(connection: Connection) -> bool:
    recorded = select(scans.c.id).where(in_hand(State.RECORDED)).limit(1)
    return connection.scalar(recorded) is not None


def _kept(connection: Connection, folder: str, names: Sequence[str]) -> set[str]:
    """Return those of these films that a backfill of the archive screened in place."""
    by_path = {f"{folder}/{name}": name for name in names}
    paths = sorted(by_path)
    kept: set[str] = set()
    for start in range(0, len(paths), _CHUNK):
        statement = select(scans.c.file_name).where(
            scans.c.file_name.in_(paths[start : start + _CHUNK]), scans.c.state == State.KEPT
        )
        kept.update(by_path[path] for path in connection.scalars(statement))
    return kept


def _places(connection: Connection, day: str) -> set[str]:
    """Return the places of the films screened on a day, by their rows."""
    begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
    statement = select(scans.c.filed_as).where(
        scans.c.screened_at >= begin,
        scans.c.screened_at < begin + timedelta(days=1),
        scans.c.filed_as.is_not(None),
    )
    return set(connection.scalars(statement))


def _has_label() -> ColumnElement[bool]:
    return exists(select(labels.c.id).where(labels.c.scan_id == scans.c.id))
