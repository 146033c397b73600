"""`lungwatch discard`: removes the files of films that are old enough to go."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.archive.discard import Discarding
from worker.cli import common


def discard(
    *,
    older_than: Annotated[
        str, typer.Option(help="Screened before then: 365d, or 2026-11-23 (UTC).")
    ],
    refused: Annotated[
        bool, typer.Option("--refused", help="Refused films, in place of archived ones.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only said.")] = False,
) -> None:
    """Remove the files of archived films that are old enough to go. Their rows stay.

    Films that a reader labelled stay, for nights learn from them; so does a file that is not what
    was screened. Nothing is removed without --yes.
    Exit status: 0 if all that was to go is gone, else 1.
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
        typer.echo(f"{films}, would go{stay}. Nothing was done: --yes does it.")
        return
    gone = kept = 0
    for film, why in discarding.discard():
        gone += why is None
        if why is not None:
            kept += 1
            typer.echo(f"scan {film.scan_id} stays: {why}", err=True)
    typer.echo(f"{gone:,} of {films}, are gone{stay}")
    raise typer.Exit(1 if kept else 0)
