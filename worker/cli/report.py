"""`lungwatch report`: writes one page of results, for a browser or for print."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from worker.cli import common
from worker.cli.failure import fail
from worker.db.engine import Database
from worker.db.results import Results
from worker.model.registry import Registry
from worker.reports.explain import explain
from worker.reports.models import describe_measures
from worker.reports.page import Page, days_of, listed, pictures_of, refusals_of
from worker.settings import Settings

_LISTED = 500  # films of the worklist on the page


def report(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")],
    since: Annotated[
        str, typer.Option(help="Films screened since: 2026-11-23, 2026-11-23T08:00 (UTC), 12h, 7d.")
    ] = "7d",
    pictures: Annotated[
        int,
        typer.Option(
            min=0, help="The number of films of the worklist to draw with their evidence."
        ),
    ] = 0,
    no_names: Annotated[
        bool,
        typer.Option(
            "--no-names", help="Leave out file names, which may contain a patient's name."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write one HTML page: films by day, a worklist, refusals by reason, the model in service.

    The page needs no other files and no network.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        fail(f"{output}: the name must end in .html")
    common.refuse_to_replace(output, force=force)
    begin = common.moment(since)
    settings = common.settings()
    database, registry = common.database(settings), Registry(settings.models)
    reader = Results(database)
    worklist, total = reader.worklist(begin, limit=_LISTED)
    serving = registry.champion()
    page = Page(
        since=f"{begin.astimezone(UTC):%Y-%m-%d %H:%M}",
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        days=days_of(reader.by_day(begin)),
        worklist=[listed(row, names=not no_names) for row in worklist],
        left_out=total - len(worklist),
        pictures=pictures_of(
            worklist[:pictures],
            lambda scan_id: _draw(settings, database, registry, scan_id),
            names=not no_names,
        ),
        refusals=refusals_of(reader.refusals(begin)),
        model=serving or "none",
        measures=_measures(registry, serving),
        tested_on="" if serving is None else registry.manifest(serving).tested_on.sentence,
    )
    common.write_file(output, page.as_html().encode(), force=force)
    typer.echo(f"{output}: {sum(day.total for day in page.days):,} films, {total:,} to look at")


def _draw(settings: Settings, database: Database, registry: Registry, scan_id: int) -> bytes:
    return explain(
        database, registry, settings.folders, f"id:{scan_id}", limits=settings.limits
    ).thumbnail()


def _measures(registry: Registry, version: str | None) -> dict[str, str]:
    """Return the measures of the model in service, as text."""
    return {} if version is None else describe_measures(registry, version)
