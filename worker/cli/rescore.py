"""`lungwatch rescore`: archived films screened again with another version, as further rows."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.db.predictions import ArchivedFilms, Selection
from worker.model.registry import Registry
from worker.screening.rescore import rescore as screen_all
from worker.screening.rescreen import Means
from worker.system.progress import bar


def rescore(
    *,
    model: Annotated[str, typer.Option(help="Version to screen them with.")],
    since: Annotated[
        str | None,
        typer.Option(help="Screened since then: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many, newest first; else all.")
    ] = None,
) -> None:
    """Screen archived films again with another version, as further rows in `predictions`.

    `results` goes on showing the screening. Stopped and started again, it goes on where it was.
    Exit status: 0 if all could be screened, 1 if some were moved or changed, each with its reason.
    """
    settings = common.settings()
    database = common.database(settings)
    registry = Registry(settings.models)
    registry.manifest(model)
    moment = None if since is None else common.moment(since)
    selection = Selection(without=model, since=moment, limit=limit)
    with bar("rescoring", ArchivedFilms(database).count(selection)) as progress:
        done = screen_all(
            database,
            registry.folder(model),
            Means(
                folders=settings.folders,
                screeners=settings.screener_options,
                prevalence=settings.prevalence,
            ),
            selection,
            progress=lambda count: progress.show(done=count),
        )
    for film in done.skipped:
        typer.echo(f"scan {film.scan_id}: {film.why}", err=True)
    skipped = f", {len(done.skipped)} skipped" if done.skipped else ""
    typer.echo(f"{done.screened} films screened again with {model}{skipped}")
    raise typer.Exit(1 if done.skipped else 0)
