"""`lungwatch drift`: compares films that arrive now with the model's first films at this site."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.cli import common
from worker.model.intervals import wilson_interval
from worker.model.registry import Registry
from worker.monitoring.drift import BUDGET, Finding
from worker.monitoring.drift_data import agreement, look_for_drift
from worker.reports.tables import console, new_table

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_SHOWN_DAYS = 60


def drift(
    *,
    model: Annotated[
        str | None,
        typer.Option(help="Films screened by this version. Default: the version that serves."),
    ] = None,
    weeks: Annotated[int, typer.Option(min=1, help="Weeks of readers' labels to show.")] = 8,
) -> None:
    """Compare the last week of films with the model's first weeks at this site, without labels.

    Also show sensitivity and specificity by week from readers' labels. An alarm stops promotions by
    nights, never screening.
    Exit status: 1 if there is an alarm, else 0, also if there are too few films to tell.
    """
    settings = common.settings()
    version = model or Registry(settings.models).serving()
    database = common.database(settings)
    findings, why = look_for_drift(database, version)
    if why:
        typer.echo(f"No result yet: {why}.")
    else:
        table = new_table("measure", "PSI", "limit", "", "by day (half height is the limit)")
        for one in findings:
            word = "[bold red]ALARM[/bold red]" if one.alarm else "[green]ok[/green]"
            table.add_row(one.measure, f"{one.psi:.3f}", f"{one.limit:.3f}", word, _drawn(one))
        console().print(table)
        typer.echo(f"Without any change, {BUDGET:.0%} of years have a false alarm.")
    by_week = agreement(database, version, weeks=weeks)
    if by_week:
        table = new_table("week", "sensitivity", "95 %", "specificity", "95 % ")
        for week in by_week:
            cells = []
            for right, count in (week.of_pneumonia, week.of_normal):
                low, high = wilson_interval(right, count)
                cells += [f"{right} of {count}", f"{low:.2f} to {high:.2f}" if count else ""]
            table.add_row(week.week, *cells)
        console().print(table)
    raise typer.Exit(1 if any(one.alarm for one in findings) else 0)


def _drawn(finding: Finding) -> str:
    """Draw a finding as one character a day: half height is the limit, full height twice that."""
    top = len(_HEIGHTS) - 1
    return "".join(
        _HEIGHTS[min(top, round(top * one / 2))] for one in finding.by_day[-_SHOWN_DAYS:]
    )
