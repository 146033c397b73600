"""`lungwatch drift`: whether what arrives still looks like what the model first saw here."""

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
        str | None, typer.Option(help="What this version screened; else what serves.")
    ] = None,
    weeks: Annotated[int, typer.Option(min=1, help="Of readers' labels, so many.")] = 8,
) -> None:
    """Compare the last week of films with the first weeks of the model here, without labels.

    And with readers' labels: sensitivity and specificity by week. An alarm holds promotions by
    nights, never screening.
    Exit status: 0 if there is no alarm, or too little to tell, else 1.
    """
    settings = common.settings()
    version = model or Registry(settings.models).serving()
    database = common.database(settings)
    findings, why = look_for_drift(database, version)
    if why:
        typer.echo(f"Nothing to tell yet: {why}.")
    else:
        table = new_table("measure", "PSI", "limit", "", "by day, the limit at half height")
        for one in findings:
            word = "[bold red]ALARM[/bold red]" if one.alarm else "[green]ok[/green]"
            table.add_row(one.measure, f"{one.psi:.3f}", f"{one.limit:.3f}", word, _drawn(one))
        console().print(table)
        typer.echo(f"Without a change there is an alarm in {BUDGET:.0%} of years.")
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
    """Draw a finding day by day in one line: full height is twice its limit, or more."""
    top = len(_HEIGHTS) - 1
    return "".join(
        _HEIGHTS[min(top, round(top * one / 2))] for one in finding.by_day[-_SHOWN_DAYS:]
    )
