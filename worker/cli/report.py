"""`lungwatch report`: one page of what was screened, for a browser or for paper."""

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

_LISTED = 500  # of the worklist


def report(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write, a .html.")],
    since: Annotated[
        str, typer.Option(help="Screened since then: 2026-11-23, 2026-11-23T08:00 (UTC), 12h, 7d.")
    ] = "7d",
    pictures: Annotated[
        int, typer.Option(min=0, help="Draw so many films of the worklist, with the evidence.")
    ] = 0,
    no_names: Annotated[
        bool,
        typer.Option("--no-names", help="Leave file names out, which may carry a patient's name."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the page, if there is one.")
    ] = False,
) -> None:
    """Write one HTML page: films by day, a worklist, refusals by reason, the model in service.

    It needs nothing beside it, asks nothing of a network, and prints well.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        fail(f"{output}: name a page that ends in .html")
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
    """Return what the model in service was measured to be, in words."""
    return {} if version is None else describe_measures(registry, version)
