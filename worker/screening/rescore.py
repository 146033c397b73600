"""Screens archived films again with another version, through the screeners that serve.

`rescore` keeps what it finds as further rows in `predictions`; `results` goes on showing the
screening. `compare_decisions` keeps nothing: it is for the night, before a promotion.
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

_BATCH = 64  # verdicts in one commit


class ChampionUnfitError(LungwatchError):
    """What serves must not: the one that may replace it has nothing to be compared with."""


@dataclass(frozen=True, kw_only=True)
class Rescored:
    """What a rescore came to."""

    screened: int
    skipped: tuple[Skipped, ...]


@dataclass(frozen=True, kw_only=True)
class Turned:
    """A film whose decision would be another."""

    scan_id: int
    sha256: str
    champion: Verdict | None  # None: refused as no chest film
    challenger: Verdict | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a challenger would decide otherwise."""

    screened: int  # films that both could screen
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
    """Screen archived films again with a version, and keep what it says.

    Ended at any moment, it can be started again and goes on: what is there is not done twice.

    Args:
        database: where films and predictions are.
        package: folder of the model package.
        means: where the films lie, and what to screen them with.
        selection: which films; those that the version has spoken of are left out.
        progress: is called with how many films are done.

    Raises:
        ModelPackageError: the package must not serve.
        OwnTrouble: database or screeners are in trouble.
    """
    manifest = read_manifest(package)
    register_model(database, manifest)
    differs = Promotions(database).what_differs(manifest)
    if differs is not None:
        raise ModelPackageError(f"{manifest.version}: its {differs} is not that on record")
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
    """Screen the last archived films with both versions, and say which decisions would change.

    For the night, before a promotion: nothing is written, and both packages go through the
    screeners that would serve them, the challenger first: that it may serve is what matters.

    Args:
        database: where the films are on record.
        means: where they lie, and what to screen them with.
        champion: folder of the package that serves.
        challenger: folder of the one that may replace it, staged or in its place.
        last: so many of the newest films.

    Raises:
        ChampionUnfitError: the champion must not serve, on this machine as it is now.
        ModelPackageError: the challenger must not.
        OwnTrouble: database or screeners are in trouble.
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
