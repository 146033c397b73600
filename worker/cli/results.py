"""`lungwatch results`: shows results, newest first."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from worker.cli import common
from worker.db.results import Query, Results
from worker.reports.tables import write_results


class Format(StrEnum):
    """An output format."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Decision(StrEnum):
    """A decision."""

    NORMAL = "NORMAL"
    PNEUMONIA = "PNEUMONIA"
    REVIEW = "REVIEW"


def results(
    *,
    output: Annotated[Format, typer.Option("--format", help="The output format.")] = Format.TABLE,
    since: Annotated[
        str | None,
        typer.Option(help="Films screened since: 2026-11-23, 2026-11-23T08:00 (UTC), or 12h, 7d."),
    ] = None,
    decision: Annotated[Decision | None, typer.Option(help="Only this decision.")] = None,
    refused: Annotated[
        bool, typer.Option("--refused", help="Only refused films, with the reason.")
    ] = False,
    before: Annotated[
        int | None,
        typer.Option(
            help="Films screened before this scan; the last id of a page gives the next page."
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many, the newest.")] = 50,
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
