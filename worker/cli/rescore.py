"""`lungwatch rescore`: screens archived films again with another version, as further rows."""

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
    model: Annotated[str, typer.Option(help="The version to screen them with.")],
    since: Annotated[
        str | None,
        typer.Option(help="Films screened since: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most this many, the newest. Default: all.")
    ] = None,
) -> None:
    """Screen archived films again with another model, as further rows in `predictions`.

    `results` still shows the screening. If it is stopped, the same command continues.
    Exit status: 0 if all films were screened, 1 if some were not, with the reason for each.
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
