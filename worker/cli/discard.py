"""`lungwatch discard`: removes the files of old films."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.archive.discard import Discarding
from worker.cli import common


def discard(
    *,
    older_than: Annotated[
        str, typer.Option(help="Films screened before this: 365d, or 2026-11-23 (UTC).")
    ],
    refused: Annotated[
        bool, typer.Option("--refused", help="Refused films instead of archived ones.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove them. Without --yes they are only counted.")
    ] = False,
) -> None:
    """Remove the files of old archived films. Their rows stay.

    Films with a reader's label stay, because training needs them. A file that is not the one
    screened stays too. Without --yes nothing is removed.
    Exit status: 0 if all files to remove are gone, else 1.
    """
    before = common.moment(older_than, option="--older-than")
    settings = common.settings()
    folder = settings.refused if refused else settings.archive
    discarding = Discarding(common.database(settings), folder, refused=refused, before=before)
    extent = discarding.extent()
    which = "refused" if refused else "archived"
    films = f"{extent.films:,} {which} films, {extent.size_bytes / 1e9:.2f} GB"
    stay = f"; {extent.labelled:,} with a label stay" if extent.labelled else ""
    if not yes:
        typer.echo(f"{films}, to remove{stay}. Dry run. Pass --yes to remove them.")
        return
    gone = kept = 0
    for film, why in discarding.discard():
        gone += why is None
        if why is not None:
            kept += 1
            typer.echo(f"scan {film.scan_id} stays: {why}", err=True)
    typer.echo(f"{gone:,} of {films}, removed{stay}")
    raise typer.Exit(1 if kept else 0)
