"""`lungwatch status`: shows whether a worker is alive, its backlog, and its last trouble."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.db.status import read_status
from worker.reports.tables import write_status, write_status_as_json


def status(
    *, as_json: Annotated[bool, typer.Option("--json", help="Write JSON, for programs.")] = False
) -> None:
    """Show whether a worker is alive, its backlog, and its last trouble.

    Exit status: 0 if a worker is alive and has no trouble, else 1.
    """
    standing = read_status(common.database(common.settings()))
    (write_status_as_json if as_json else write_status)(standing)
    raise typer.Exit(0 if standing.is_well else 1)
