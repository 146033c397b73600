"""`lungwatch reclaim`: moves files without a row back to the inbox, as after a restored backup."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from worker.archive.reclaim import unnamed
from worker.cli import common
from worker.cli.failure import complain
from worker.inbox.folders import Inbox
from worker.system.files import move


def reclaim(
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Move them. Without --yes they are only counted.")
    ] = False,
) -> None:
    """Move archived films that have no row back into the inbox.

    After restoring a database backup, films screened since the backup have no row.
    Exit status: 0 if no film without a row is left, else 1.
    """
    settings = common.settings()
    inbox = Inbox(settings.folders)
    without_row = back = 0
    for path in list(unnamed(common.database(settings), inbox)):
        without_row += 1
        if not yes:
            continue
        try:
            move(os.fsencode(path), os.fsencode(settings.inbox / path.name))
        except OSError as error:
            complain(f"{path} stays: {error.strerror}")
        else:
            back += 1
    if not yes:
        typer.echo(f"{without_row:,} films have no row. Dry run. Pass --yes to move them back.")
    else:
        typer.echo(f"{back:,} of {without_row:,} films are back in the inbox")
    raise typer.Exit(0 if without_row == back else 1)
