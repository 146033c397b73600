"""`lungwatch retry`: moves refused films back into the inbox."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.archive.retry import send_back
from worker.cli import common
from worker.inbox.folders import Inbox


def retry(
    scans: Annotated[
        list[str],
        typer.Argument(help="Ids (`7` or `id:7`), file names, or beginnings of SHA-256."),
    ],
) -> None:
    """Move refused films back into the inbox, to be screened again."""
    settings = common.settings()
    database = common.database(settings)
    inbox = Inbox(settings.folders)
    unmet = 0
    for wanted in scans:
        films = 0
        for scan_id, problem in send_back(database, inbox, wanted):
            films += 1
            unmet += problem is not None
            typer.echo(f"scan {scan_id}: {problem or 'back in the inbox'}")
        if not films:
            unmet += 1
            none = "there is no refused scan with this id, file name or SHA-256 whose film exists"
            typer.echo(f"{wanted}: {none}", err=True)
    raise typer.Exit(1 if unmet else 0)
