"""`lungwatch results`: what was screened, newest first."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.cli import common
from worker.db.results import Query, Results
from worker.reports.tables import write_results


class Format(StrEnum):
    """How results are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Decision(StrEnum):
    """What a scan can be decided to be."""

    NORMAL = "NORMAL"
    PNEUMONIA = "PNEUMONIA"
    REVIEW = "REVIEW"


def results(
    *,
    output: Annotated[Format, typer.Option("--format", help="How to write them.")] = Format.TABLE,
    since: Annotated[
        str | None,
        typer.Option(help="Screened since then: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    decision: Annotated[Decision | None, typer.Option(help="Only this decision.")] = None,
    refused: Annotated[bool, typer.Option("--refused", help="Only refusals, and why.")] = False,
    before: Annotated[
        int | None,
        typer.Option(help="Screened before this scan: the last id of a page gives the next one."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 50,
) -> None:
    """Show what was screened, newest first."""
    query = Query(
        since=None if since is None else common.moment(since),
        before=before,
        decision=None if decision is None else decision.value,
        refused=refused,
        limit=limit,
    )
    database = common.database(common.settings())
    write_results(Results(database).find(query), output.value, refused=refused)
