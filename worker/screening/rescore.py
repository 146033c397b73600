"""Screens archived films again with another model version.

`rescore` stores predictions as further rows; `results` still shows the screening.
`compare_decisions` stores nothing: a night uses it before a promotion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from worker.db.engine import Database
from worker.db.predictions import ArchivedFilms, Selection
from worker.db.promotions import Promotions
from worker.db.scans import register_model
from worker.errors import LungwatchError, ModelPackageError
from worker.model.decision import Verdict
from worker.model.manifest import read_manifest
from worker.screening.rescreen import Means, Skipped, screen_again

_BATCH = 64  # verdicts per commit


class ChampionUnfitError(LungwatchError):
    """The champion is not fit to serve, so there is nothing to compare the challenger with."""


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """The result of a rescore."""

    screened: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A film whose decision would change."""

    scan_id: int
    sha256: str
    champion: Verdict | None  # None: refused as not a chest X-ray
    challenger: Verdict | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The films that a challenger would decide differently."""

    screened: int  # films that both screened
    turned: tuple[Turned, ...]  # newest first
    skipped: tuple[Skipped, ...]


def rescore(
    database: Database,
    package: Path,
    means: Means,
    selection: Selection,
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> Rescored:
    """Screen archived films again with a version, and store its predictions.

    If it is ended early, another run continues: films that have a prediction are not done again.

    Args:
        database: with films and predictions.
        package: folder of the model package.
        means: where the films are, and how to screen them.
        selection: which films; those with a prediction of this version are left out.
        progress: called with the number of films done.

    Raises:
        ModelPackageError: the package is not fit to serve.
        OwnTrouble: trouble with database or screeners.
    """
    manifest = read_manifest(package)
    register_model(database, manifest)
    differs = Promotions(database).what_differs(manifest)
    if differs is not None:
        raise ModelPackageError(f"{manifest.version}: its {differs} is not the one on record")
    archive = ArchivedFilms(database)
    pending: list[tuple[int, Verdict]] = []
    skipped: list[Skipped] = []
    screened = 0
    try:
        for film, answer in screen_again(archive.films(selection), package, means):
            if isinstance(answer, Skipped):
                skipped.append(answer)
            else:
                pending.append((film.scan_id, answer))
                screened += 1
            if len(pending) >= _BATCH:
                archive.record(pending, manifest)
                pending = []
            progress(screened + len(skipped))
    finally:
        archive.record(pending, manifest)
    return Rescored(screened=screened, skipped=tuple(skipped))


def compare_decisions(
    database: Database, means: Means, *, champion: Path, challenger: Path, last: int
) -> Comparison:
    """Screen the latest archived films with both versions, and return changed decisions.

    For a night, before a promotion. Nothing is written. Both packages run in screeners as they
    would in service; the challenger comes first, because its fitness matters most.

    Args:
        database: with the rows of the films.
        means: where the films are, and how to screen them.
        champion: folder of the package that serves.
        challenger: folder of the package that may replace it, staged or published.
        last: the number of films, the newest.

    Raises:
        ChampionUnfitError: the champion is not fit to serve on this machine now.
        ModelPackageError: the challenger is not.
        OwnTrouble: trouble with database or screeners.
    """
    films = list(ArchivedFilms(database).films(Selection(limit=last)))
    after = {film.scan_id: answer for film, answer in screen_again(films, challenger, means)}
    try:
        before = {film.scan_id: answer for film, answer in screen_again(films, champion, means)}
    except ModelPackageError as error:
        raise ChampionUnfitError(str(error)) from error
    turned: list[Turned] = []
    skipped: list[Skipped] = []
    for film in films:
        both = before[film.scan_id], after[film.scan_id]
        unread = [one for one in both if isinstance(one, Skipped) and not one.as_none]
        if unread:
            skipped.append(unread[0])
            continue
        old, new = (None if isinstance(one, Skipped) else one for one in both)
        if (old and old.decision) != (new and new.decision):
            turned.append(
                Turned(scan_id=film.scan_id, sha256=film.sha256, champion=old, challenger=new)
            )
    return Comparison(
        screened=len(films) - len(skipped), turned=tuple(turned), skipped=tuple(skipped)
    )
